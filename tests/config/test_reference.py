"""docs/config.md: generated, complete, and true to the defaults."""

from __future__ import annotations

import json
import tomllib

import pytest

from orca2_gen.config.reference import NOT_SET, OWN, REFERENCE, REQUIRED, config_reference
from orca2_gen.config.section import Section

SECTIONS = Section.__subclasses__()
Table = dict[str, tuple[str, str, str]]


def tables(page: str) -> list[Table]:
    """Key -> type, default and sentence, of each table of the page."""
    found: list[Table] = []
    for line in page.splitlines():
        if line.startswith("|---"):
            found.append({})
        elif line.startswith("| `"):
            key, kind, default, sentence = line.removeprefix("| ").removesuffix(" |").split(" | ")
            found[-1][key.strip("`")] = kind, default, sentence
    return found


def table_of(section: type[Section]) -> Table:
    [found] = [each for each in tables(config_reference()) if [*each] == [*section.model_fields]]
    return found


def test_the_page_is_the_one_that_make_docs_writes() -> None:
    assert REFERENCE.read_text(encoding="utf-8") == config_reference(), "stale: run `make docs`"


@pytest.mark.parametrize("section", SECTIONS)
def test_every_key_has_a_sentence(section: type[Section]) -> None:
    for key, (_, _, sentence) in table_of(section).items():
        assert sentence.endswith("."), f"add a sentence under {section.__name__}.{key}"


@pytest.mark.parametrize("section", SECTIONS)
def test_a_default_is_the_models_own_in_toml(section: type[Section]) -> None:
    for key, (_, shown, _) in table_of(section).items():
        field = section.model_fields[key]
        default = field.get_default(call_default_factory=True)
        if shown == REQUIRED:
            assert field.is_required()
        elif shown == NOT_SET:
            assert default is None
        elif shown == OWN:
            assert isinstance(default, Section)
        else:
            read = tomllib.loads(f"value = {shown.strip('`')}")["value"]
            assert read == json.loads(json.dumps(default)) and type(read) in (type(default), list)


def test_types_read_as_a_person_would_say_them() -> None:
    kinds = {
        kind.strip("`") for table in tables(config_reference()) for kind, _, _ in table.values()
    }
    assert {
        "int >= 1",
        "float > 0.0 and <= 1.0",
        "path",
        '"race" or "full_grid"',
        "list of string",
        "table of float >= 0.0 and <= 1.0",
        "[int >= 1 and <= 16, int >= 1 and <= 16]",
    } <= kinds
