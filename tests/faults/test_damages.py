"""Every damaged run directory of damages.py, in this process: exit code and one line that says it.

19, 20 and 21 of the matrix are the rows of this table.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from tests.conftest import Call, FinishedRun
from tests.faults.damaged import STATUS, Damage
from tests.faults.damages import DAMAGES
from tests.test_older_run import MADE_AT, OLDER_RUN


def older_copy(to: Path) -> Path:
    run_dir = Path(shutil.copytree(OLDER_RUN / "RUN", to))
    config = run_dir / "config.json"
    config.write_text(config.read_text().replace(MADE_AT, str(OLDER_RUN)))
    return run_dir


@pytest.fixture
def damaged(tmp_path: Path, undisturbed: FinishedRun, damage: Damage) -> Path:
    run_dir = tmp_path / "copy"
    if damage.is_older:
        older_copy(run_dir)
    else:
        shutil.copytree(undisturbed.run_dir, run_dir)
    damage.make(run_dir)
    return run_dir


def test_the_table_is_long_and_no_row_of_it_is_twice() -> None:
    names = [(damage.what, damage.is_older) for damage in DAMAGES]
    assert len(names) == len(set(names)) >= 60


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.what)
def test_a_damaged_run_directory_is_named_in_one_line_and_never_a_traceback(
    damaged: Path, damage: Damage, undisturbed: FinishedRun, orca2: Call
) -> None:
    for command, *options in damage.commands:
        started = time.monotonic()
        code, out, err = (
            orca2("run", undisturbed.config_file, "--set", f"run_dir={damaged}", *options)
            if command == "run"
            else orca2(command, damaged)
        )
        lines = [*out.splitlines(), *err.splitlines()]
        assert code == damage.code, (command, lines)
        assert any(all(word in line for word in damage.words) for line in lines), (command, lines)
        assert "Traceback" not in out + err and "pydantic" not in out + err
        assert time.monotonic() - started < 20
    code, out, err = orca2(*STATUS, damaged)
    assert code in (0, 1, 2) and "Traceback" not in out + err
