from __future__ import annotations

import re
from pathlib import Path

import pytest

from orca2_gen.config.engine import _PINNED
from orca2_gen.config.load import read_config
from orca2_gen.config.secrecy import is_secret_name
from tests.conftest import Write


@pytest.mark.parametrize("name", sorted(name for name in _PINNED if not is_secret_name(name)))
def test_no_variable_of_an_engine_lets_it_ask_the_network_or_run_code_of_others(
    write_config: Write, tmp_path: Path, name: str
) -> None:
    file = write_config()
    for value, is_fine in ((_PINNED[name], True), ("x", False)):
        allowed = f"student.env_allowed=['{name}']"
        sets = ["student.engine=vllm", f"student.model={tmp_path}", allowed]
        sets += [f"student.env.{name}='{value}'"]
        text = file.read_text().replace('engine = "scripted"', "", 1)
        one = tmp_path / "one.toml"
        one.write_text(re.sub(r"(?s)\[student\].*?\[teacher\]", "[student]\n[teacher]", text))
        if is_fine:
            assert read_config(one, sets).student.env == {name: value}  # type: ignore[union-attr]
            continue
        with pytest.raises(ValueError, match=f"{name} may only be") as refused:
            read_config(one, sets)
        assert "\n" not in str(refused.value)
