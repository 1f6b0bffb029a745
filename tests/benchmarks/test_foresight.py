from __future__ import annotations

import json
import math

import pytest

from benchmarks import foresight
from benchmarks.scripted.runs import drawn_run, teaching


def test_the_end_of_scripted_stages_is_foretold(capsys: pytest.CaptureFixture[str]) -> None:
    """Few runs: the figures of many are in docs/measurements.md."""
    foresight.main(["--runs", "4", "--first-seed", "1003"])
    document = json.loads(capsys.readouterr().out.splitlines()[-1])
    for stage in ("rationales", "scores"):
        for share in foresight.SHARES:
            assert f"{stage} of 15 min at {share}" in document
        half = document[f"{stage} of 15 min at 0.5"]
        assert math.isfinite(half["nine_of_ten"])
        assert abs(half["median"]) < 0.3


def test_a_run_is_the_same_whenever_it_is_drawn() -> None:
    def events() -> list[tuple[float, int]]:
        run = drawn_run(3)
        return [(event.time, len(event.figures)) for event in teaching(run)]

    assert events() == events()
