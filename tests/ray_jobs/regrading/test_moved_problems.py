"""Rationales carried over to problems that stand in other units here, without Ray."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from orca2_gen.config.load import load_config
from orca2_gen.provenance.verify import verify
from orca2_gen.records import Rationale
from orca2_gen.run_directory.arrow_files import read_records, read_table
from orca2_gen.run_directory.ledger import read_ledger
from orca2_gen.run_directory.units import origin_of, read_refused
from ray_jobs.regrading import stages
from ray_jobs.regrading.regrade import regrade
from ray_jobs.run import open_run
from tests.conftest import quiet, source_of
from tests.ray_in_process import finished, ray_in_process
from tests.ray_jobs.several import Said, config_file, play

SAID: Said = {
    f"p{number:02}": ["Answer: 8", "Answer: 7", f"{number}. Answer: 7"] for number in range(24)
}
THREE = "rationales.max_attempts=3"


def regraded(file: Path, source: Path, run_dir: Path, *overrides: str) -> tuple[str, ...]:
    config = load_config(file, [f"run_dir={run_dir}", *overrides])
    with ray_in_process(finished), open_run(config, quiet, say=lambda line: None) as run:
        return regrade(run, source_of(source, config)).lines


def answers(run_dir: Path) -> list[Rationale]:
    """All answers, accepted or refused, by problem and attempt."""
    found: list[Rationale] = []
    for receipt in read_ledger(run_dir).committed("rationales"):
        found += read_records(run_dir, receipt.accepted, Rationale)
        found += read_refused(run_dir, receipt, Rationale)
    return sorted(found, key=lambda row: (row.problem_id, row.attempt))


def test_a_unit_reads_only_the_other_run_s_units_that_hold_its_problems(tmp_path: Path) -> None:
    file = config_file(tmp_path, SAID)
    play(file, tmp_path / "old", SAID, THREE)
    before = answers(tmp_path / "old")
    task = tmp_path / "sums.jsonl"
    task.write_text("".join(task.read_text().splitlines(keepends=True)[1:]))
    reads: Counter[str] = Counter()

    def read(root: Path, entry: Any, record: type) -> list[Any]:
        reads[entry.path] += root == (tmp_path / "old").resolve() and record is Rationale
        return read_records(root, entry, record)

    with patch.object(stages, "read_records", read):
        regraded(file, tmp_path / "old", tmp_path / "run", THREE)
    assert answers(tmp_path / "run") == [row for row in before if not row.problem_id.endswith("00")]
    assert verify(tmp_path / "run").findings == []
    assert sum(reads.values()) <= 2 * 8, reads


@pytest.mark.parametrize("is_asked", [True, False])
def test_stored_answers_keep_the_engine_that_made_them(tmp_path: Path, is_asked: bool) -> None:
    file, run_dir = config_file(tmp_path, SAID), tmp_path / "run"
    with patch("ray_jobs.engines.actor.engine_version", lambda config: "vllm 0.1"):
        play(file, tmp_path / "old", SAID, THREE)
    most = ["rationales.per_problem=2"] if is_asked else []
    lines = regraded(file, tmp_path / "old", run_dir, THREE, *most)
    assert any("open for the teacher" in line for line in lines) == is_asked
    with patch("ray_jobs.engines.actor.engine_version", lambda config: "vllm 0.2"):
        play(file, run_dir, SAID, THREE, *most)
    expected = "vllm 0.1 or vllm 0.2" if is_asked else "vllm 0.1"
    for receipt in read_ledger(run_dir).committed("rationales"):
        about = origin_of(read_table(run_dir, receipt.accepted).schema)
        assert about is not None and about.engine == expected
    assert verify(run_dir).findings == []
