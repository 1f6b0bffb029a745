from __future__ import annotations

import json

import pytest

from benchmarks import figures_overhead


def test_the_last_line_tells_what_figures_take_of_an_engine(
    capsys: pytest.CaptureFixture[str], local_ray: None
) -> None:
    figures_overhead.main(["--requests", "500", "--writes", "5"])
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    low, high = found["min_max"]
    assert low <= found["microseconds_per_row"] <= high
    assert found["milliseconds_per_write"] > 0
    expected = found["microseconds_per_row"] * 1e-6 * figures_overhead.REQUESTS_PER_SECOND
    expected += found["milliseconds_per_write"] / 1000 / figures_overhead.WRITE_SECONDS
    assert found["share"] == pytest.approx(expected, abs=1e-4)
