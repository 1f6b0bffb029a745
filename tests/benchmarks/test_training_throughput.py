from __future__ import annotations

import json

import pytest

from benchmarks import training_throughput
from benchmarks.training.with_trl import SETTINGS

SMALL = (
    *("--hidden", "64", "--layers", "1", "--seq-len", "128", "--vocabulary", "256"),
    *("--rows-per-step", "2", "--steps", "1", "--pairs", "1", "--mean-tokens", "30"),
    *("--packed-examples", "2000", "--read-examples", "200"),
)


def test_every_loop_trains_and_the_last_line_is_the_document(
    capsys: pytest.CaptureFixture[str],
) -> None:
    training_throughput.main(SMALL)
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    speeds = found["all_tokens_per_second"]
    assert set(speeds) == {
        *("ours", "ours_packed", "bare_packed", "bare_same_passes"),
        *(f"trl_{setting}" for setting in SETTINGS),
    }
    assert all(speed > 0 for speed in speeds.values())
    best = max(SETTINGS, key=lambda setting: speeds[f"trl_{setting}"])
    assert found["best_of_trl"] == best
    assert found["over_trl"] == pytest.approx(speeds["ours"] / speeds[f"trl_{best}"], rel=0.01)
    assert 0.9 < found["fill"] <= 1.0 and found["peak_memory_mb"] > 0
