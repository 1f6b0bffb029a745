from __future__ import annotations

import math
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from orca2_gen.config.load import read_config
from orca2_gen.preflight.race import race_line
from orca2_gen.strategies import load_strategies

CONFIG = Path(__file__).parents[2] / "ray_jobs" / "configs" / "llama2.toml"


def line_of(*overrides: str) -> str:
    return race_line(read_config(CONFIG, list(overrides)), load_strategies(None))


@given(replicas=st.integers(1, 64), sequences=st.integers(1, 512), open_=st.integers(1, 5000))
def test_exactly_a_race_that_is_too_small_for_its_engines_gets_a_line(
    replicas: int, sequences: int, open_: int
) -> None:
    line = line_of(
        f"student.replicas={replicas}",
        f"student.max_num_seqs={sequences}",
        f"selection.open_requests={open_}",
    )
    num_strategies = len(load_strategies(None).names)
    opened = num_strategies * max(32, min(math.ceil(open_ / num_strategies), 64))
    assert bool(line) == (opened < replicas * sequences)
    assert not line or f"opens {opened:,} cells" in line
    assert not line or f" {replicas * sequences:,} sequences" in line


def test_the_line_says_what_each_preference_may_cost() -> None:
    most = f"{500 * len(load_strategies(None).names):,} cells"
    few, fast = line_of(), line_of("dispatch.prefer=shortest_time")
    assert "tenth" in few and most in few and "tenth" not in fast and most in fast


def test_what_is_no_race_gets_no_line() -> None:
    assert line_of("selection.method=full_grid") == ""
    assert line_of("selection.policy=fixed:step_by_step") == ""
    assert line_of("selection.select_by=category") == ""
