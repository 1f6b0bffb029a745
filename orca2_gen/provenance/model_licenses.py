"""A model's directory -> the license that its own card or a file beside it states, offline.

The card, README.md, is a stranger's: it is read up to a bound, and whatever is not a plain license
in plain YAML counts as not stated.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from orca2_gen.config.secrecy import secret_in
from orca2_gen.run_directory.regular_files import UnusableFile, read_regular

_MOST_CARD_BYTES = 4 << 20
_MOST_FRONT_MATTER = 64 << 10
"""Bytes of front matter: PyYAML needs seconds for a megabyte."""
_FRONT_MATTER = re.compile(r"\A\ufeff?\s*---[ \t]*\r?\n(.*?)\r?\n---[ \t]*(?:\r?\n|\Z)", re.DOTALL)
_LICENSE = re.compile(r"[A-Za-z0-9][A-Za-z0-9 .,+()_-]{0,63}")
_FILE = re.compile(r"LICEN[CS]E[A-Za-z0-9._-]{0,40}", re.IGNORECASE)
_MOST_FILES = 10_000
_DEEPEST = 20


def model_license(directory: Path) -> tuple[str, str]:
    """The license of the model in a directory, and where it is stated; both empty if nowhere."""
    if stated := _of_card(directory / "README.md"):
        return stated, "model card"
    if name := _license_file(directory):
        return f"see {name} in the model's directory", "file"
    return "", ""


def _of_card(path: Path) -> str:
    try:
        text = read_regular(path, _MOST_CARD_BYTES).decode("utf-8")
    except (OSError, UnusableFile, UnicodeDecodeError):
        return ""
    found = _FRONT_MATTER.match(text[: 2 * _MOST_FRONT_MATTER])
    if found is None or len(found[1]) > _MOST_FRONT_MATTER:
        return ""
    values = _plain_yaml(found[1])
    if not isinstance(values, dict):
        return ""
    license = values.get("license")
    names: list[Any] = license if isinstance(license, list) else [license]
    if names == ["other"] and _is_license(values.get("license_name")):
        names = [values["license_name"]]  # how the hub names a license that it does not know
    if not 1 <= len(names) <= 5 or not all(map(_is_license, names)):
        return ""
    return ", ".join(names)


def _plain_yaml(text: str) -> Any:
    """The value of a YAML document that is what it seems; None if it is none."""
    import yaml

    try:
        return yaml.safe_load(text) if _is_flat(text) else None
    except (yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return None


def _is_flat(text: str) -> bool:
    """Whether a YAML document has no alias, which makes a few lines stand for any number of values,
    and no deep nesting, whose time grows with its square.
    """
    import yaml

    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST or isinstance(event, yaml.AliasEvent):
            return False
    return True


def _is_license(value: Any) -> bool:
    is_plain = isinstance(value, str) and _LICENSE.fullmatch(value) is not None
    return is_plain and not secret_in(value)


def _license_file(directory: Path) -> str:
    """The name of the first license file in a directory; empty if there is none."""
    found = []
    try:
        with os.scandir(directory) as entries:
            for _, entry in zip(range(_MOST_FILES), entries, strict=False):
                if _FILE.fullmatch(entry.name) and entry.is_file():
                    found.append(entry.name)
    except OSError:
        return ""
    return min(found, default="")
