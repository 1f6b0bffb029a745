"""A run whose templates read the clock is one run, however many days it takes."""

from __future__ import annotations

import datetime
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from orca2_gen.config import load as load_module
from orca2_gen.config.load import load_config
from orca2_gen.provenance.verify import verify
from orca2_gen.run_directory.ledger import read_ledger
from ray_jobs.pipeline import (
    build_dataset,
    erase,
    read_tasks,
    run_all,
    score_student,
    select_strategies,
    teach,
)
from ray_jobs.run import open_run
from tests.chat.test_templates import CLOCKS, NO_SYSTEM, set_today
from tests.conftest import Write, byte_level_bpe, quiet, write_run_config, write_tokenizer
from train.examples import load_examples

pytestmark = pytest.mark.usefixtures("local_ray")

CLOCK = CLOCKS["in a macro"]


def begin_day(monkeypatch: pytest.MonkeyPatch, day: str) -> None:
    """Lets this program and the templates believe that it is this day."""

    class Clock(datetime.date):
        @classmethod
        def today(cls) -> Clock:
            return cls.fromisoformat(day)

    monkeypatch.setattr(load_module, "datetime", SimpleNamespace(date=Clock))
    set_today(monkeypatch, day)


def config_with(tmp_path: Path, template: str, student: str = "") -> Path:
    tokenizer = tmp_path / "tokenizer"
    write_tokenizer(tokenizer, byte_level_bpe(), template, eos_token="<|im_end|>")
    return write_run_config(tmp_path, tokenizer, student=student, day="")


def rows_of(run_dir: Path) -> list[tuple[int, ...]]:
    found = load_examples(
        run_dir / "dataset", prompts="erased", model_dir=run_dir.parent / "tokenizer"
    )
    return [tuple(found[index].input_ids.tolist()) for index in range(len(found))]


def test_a_run_over_three_days_has_the_prompts_of_one_and_stays_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = config_with(tmp_path, CLOCK)
    begin_day(monkeypatch, "2026-11-28")
    with open_run(load_config(file), quiet) as run:
        read_tasks(run)
        score_student(run)
    begin_day(monkeypatch, "2026-11-29")
    with open_run(load_config(file), quiet) as run:
        select_strategies(run)
        teach(run)
    begin_day(monkeypatch, "2026-11-30")
    with open_run(load_config(file), quiet) as run:
        erase(run)
        build_dataset(run)
        run_dir = run.run_dir
    found = set()
    for day in ("2026-11-30", "2026-12-01", "2027-06-01"):
        begin_day(monkeypatch, day)
        assert verify(run_dir).findings == []
        found.add(tuple(rows_of(run_dir)))
    assert len(found) == 1 and found.pop()
    recorded = json.loads((run_dir / "config.json").read_text())
    assert recorded["config"]["template_date"] == "2026-11-28"
    assert recorded["stages"]["examples"]["rendered"]["template_date"] == "2026-11-28"


def test_a_run_of_another_day_begins_anew_and_a_fork_keeps_the_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = config_with(tmp_path, CLOCK)
    begin_day(monkeypatch, "2026-11-28")
    with open_run(load_config(file), quiet) as run:
        run_all(run)
        first = run.run_dir
    begin_day(monkeypatch, "2026-11-29")
    with (
        pytest.raises(ValueError, match=r"template_date.*2026-11-28.*2026-11-29.*--fork"),
        open_run(load_config(file, ["template_date=2026-11-29"]), quiet),
    ):
        pass
    said: list[str] = []
    elsewhere = [f"run_dir={tmp_path / 'fork'}"]
    config = load_config(file, elsewhere, source=first)
    with open_run(config, quiet, said.append, fork=first) as run:
        run_all(run)
        assert read_ledger(run.run_dir).committed("scores")
    assert any("forked problems, scores" in line for line in said), said
    assert rows_of(tmp_path / "fork") == rows_of(first)


def test_a_plain_template_makes_the_same_keys_on_any_day(
    write_config: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_config(day="")
    begin_day(monkeypatch, "2026-11-28")
    with open_run(load_config(file), quiet) as run:
        read_tasks(run)
        first = dict(run.keys)
    with open_run(load_config(file, ["template_date=2031-01-01"]), quiet) as run:
        assert dict(run.keys) == first


def test_a_folded_run_is_whole_erased_and_trains_on_its_prompts(tmp_path: Path) -> None:
    file = config_with(tmp_path, NO_SYSTEM, student='system = "fold"')
    with (
        pytest.raises(ValueError, match=r"teacher\.tokenizer.*set teacher\.system"),
        open_run(load_config(file), quiet),
    ):
        pass
    with open_run(load_config(file, ["teacher.system=fold"]), quiet) as run:
        run_all(run)
        run_dir = run.run_dir
    assert verify(run_dir).findings == []
    rows = rows_of(run_dir)
    assert rows and all(np.array(row).size for row in rows)
    manifest = json.loads((run_dir / "dataset" / "manifest.json").read_text())
    assert manifest["rendering"]["system"] == "fold"
    changed = shutil.copytree(run_dir, tmp_path / "changed")
    body = json.loads((changed / "dataset" / "manifest.json").read_text())
    body["rendering"]["system"] = "message"
    (changed / "dataset" / "manifest.json").write_text(json.dumps(body))
    assert any("rendered otherwise" in line for line in verify(changed).findings)
