"""The day that templates show is the run's first one, whoever asks and whenever."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from orca2_gen.config import load as load_module
from orca2_gen.config.load import load_config, read_config
from orca2_gen.config.schema import Config
from tests.conftest import Write


def set_today(monkeypatch: pytest.MonkeyPatch, day: str) -> None:
    class Clock(datetime.date):
        @classmethod
        def today(cls) -> Clock:
            return cls.fromisoformat(day)

    monkeypatch.setattr(load_module, "datetime", SimpleNamespace(date=Clock))


def record(run_dir: str, config: Config) -> None:
    Path(run_dir).mkdir(parents=True)
    body = {"config": config.model_dump(mode="json"), "stages": {}}
    (Path(run_dir) / "config.json").write_text(json.dumps(body))


@pytest.mark.parametrize("written", ["2026-03-04", '"2026-03-04"'])
def test_a_date_is_taken_from_the_config_in_either_spelling(
    write_config: Write, written: str
) -> None:
    config = load_config(write_config(day=""), [f"template_date={written}"])
    assert config.template_date == "2026-03-04"


@pytest.mark.parametrize(
    "written",
    [
        "2026-02-30",
        "tomorrow",
        "7",
        "2026-03-04T10:00:00",
        "9999-12-31",
        "0001-01-01",
        '"2026-03-04 10:00"',
        "true",
        "20250304",
        '"2025-W10-2"',
    ],
)
def test_what_is_no_day_is_refused_in_one_line(write_config: Write, written: str) -> None:
    with pytest.raises(ValueError, match="template_date") as refused:
        load_config(write_config(day=""), [f"template_date={written}"])
    assert "\n" not in str(refused.value)


def test_without_a_date_it_is_the_day_of_the_first_start_and_stays_so(
    write_config: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_config(day="")
    set_today(monkeypatch, "2026-11-29")
    first = load_config(file)
    assert first.template_date == "2026-11-29"
    record(first.run_dir, first)
    set_today(monkeypatch, "2026-11-30")
    assert load_config(file).template_date == "2026-11-29"
    assert load_config(file, ["template_date=2026-12-24"]).template_date == "2026-12-24"
    elsewhere = [f"run_dir={file.parent / 'other'}"]
    assert load_config(file, elsewhere).template_date == "2026-11-30"
    source = Path(first.run_dir)
    assert load_config(file, elsewhere, source=source).template_date == "2026-11-29"


@pytest.mark.parametrize("body", ["", "{", "[]", '{"config": {"template_date": 7}}'])
def test_a_record_that_says_nothing_leaves_today(
    write_config: Write, monkeypatch: pytest.MonkeyPatch, body: str
) -> None:
    file = write_config(day="")
    run_dir = file.parent / "run"
    run_dir.mkdir()
    (run_dir / "config.json").write_text(body)
    set_today(monkeypatch, "2026-11-29")
    assert load_config(file).template_date == "2026-11-29"


def test_a_config_that_travels_leaves_the_day_to_where_the_run_is(write_config: Write) -> None:
    assert read_config(write_config(day="")).template_date is None
