from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orca2_gen.fork import fork_run
from orca2_gen.ledger import read_ledger
from orca2_gen.plan import stage_determinants, stage_keys
from orca2_gen.shards import checked_bytes
from tests.conftest import FinishedRun

STAGES = ("problems", "scores", "selections", "rationales", "examples")


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kept=st.sets(st.sampled_from(STAGES)))
def test_exactly_the_units_of_an_equal_key_are_taken_over(
    undisturbed: FinishedRun, tmp_path_factory: pytest.TempPathFactory, kept: set[str]
) -> None:
    keys = stage_keys(stage_determinants(undisturbed.config))
    wanted = {stage: key if stage in kept else "other" for stage, key in keys.items()}
    target = tmp_path_factory.mktemp("fork")
    assert set(fork_run(undisturbed.run_dir, target, wanted)) == kept
    before, after = read_ledger(undisturbed.run_dir), read_ledger(target)
    for stage in STAGES:
        assert after.committed(stage) == (before.committed(stage) if stage in kept else [])
        for receipt in after.committed(stage):
            assert all(checked_bytes(target, entry) for entry in receipt.files)


def test_a_fork_into_a_run_or_from_nothing_is_refused(
    undisturbed: FinishedRun, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="has commits already"):
        fork_run(undisturbed.run_dir, undisturbed.run_dir, {})
    with pytest.raises(ValueError, match="no committed unit"):
        fork_run(tmp_path / "nothing", tmp_path / "target", {})
