"""A run directory of an older version, kept in older_run/: what users have on their disks.

Commit 0e1946c made it, in a checkout that lay at /orca2-gen, with

    orca2 run tests/older_run/run.toml && orca2 evaluate tests/older_run/run.toml

and it is never made again: a change that breaks these tests breaks its users' runs.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orca2_gen.config.load import load_config
from orca2_gen.dataset.manifest import checked_manifest, read_examples
from orca2_gen.provenance import evaluation_keys, stage_keys
from orca2_gen.provenance.accounting import RECORDS
from orca2_gen.provenance.recorded import VERSIONS
from orca2_gen.provenance.verify import verify
from orca2_gen.records import StudentScore
from orca2_gen.run_directory.ledger import Ledger, committed_rows, read_ledger
from orca2_gen.run_directory.units import STAGES
from ray_jobs.evaluation import evaluate_model
from ray_jobs.pipeline import run_all
from ray_jobs.run import open_run
from tests.conftest import quiet

OLDER_RUN = Path(__file__).with_name("older_run")
MADE_AT = "/orca2-gen/tests/older_run"


STAGES_MADE_OF: dict[str, Any] = json.loads((OLDER_RUN / "RUN" / "config.json").read_text())[
    "stages"
]
MADE_BY = {
    name: version
    for made_of in STAGES_MADE_OF.values()
    for key, name in VERSIONS.items()
    if (version := made_of.get(key, made_of.get("few_shot", {}).get(key.partition(".")[2])))
    is not None
}
"""Constant -> the version that made the run."""
LATER = {"ENDINGS_VERSION"}
"""Constants of what the run did not ask for."""
OLDER_STAGES = [stage for stage in STAGES if stage != "evaluation_judgements"]
"""The stages that the older version had."""
IS_RAISED = any(getattr(stage_keys, name) != version for name, version in MADE_BY.items())


@pytest.fixture(autouse=True)
def by_its_own_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    """A raise refuses the run, which is what it is for: all else is tested as if there were
    none."""
    for name, version in MADE_BY.items():
        monkeypatch.setattr(stage_keys, name, version)
        monkeypatch.setattr(evaluation_keys, name, version, raising=False)


@pytest.fixture
def older_run(tmp_path: Path) -> Path:
    """A copy of the run, moved to where its config and models lie now."""
    run_dir = Path(shutil.copytree(OLDER_RUN / "RUN", tmp_path / "RUN"))
    config = run_dir / "config.json"
    config.write_text(config.read_text().replace(MADE_AT, str(OLDER_RUN)))
    return run_dir


def resume(run_dir: Path, *overrides: str, fork: Path | None = None) -> list[str]:
    """Runs the recorded config to its end; the lines for people."""
    said: list[str] = []
    config_file = (fork or run_dir) / "config.json"
    config = load_config(config_file, (f"run_dir={run_dir}", *overrides))
    with open_run(config, quiet, said.append, fork=fork) as run:
        run_all(run)
        evaluate_model(run, "student")
    return said


def rows(ledger: Ledger) -> dict[str, list[Any]]:
    """Stage -> its committed rows, in the order of units."""
    return {stage: committed_rows(ledger, stage, RECORDS[stage]) for stage in STAGES}


def unit_files(run_dir: Path) -> list[Path]:
    return [path for path in run_dir.glob("*/*.arrow") if path.parent.name != "dataset"]


def dataset_rows(run_dir: Path) -> Iterator[Any]:
    return read_examples(run_dir / "dataset", checked_manifest(run_dir / "dataset"))


def without_ids(row: Any) -> Any:
    return dataclasses.replace(row, token_ids=()) if isinstance(row, StudentScore) else row


def test_an_older_run_holds_a_row_of_every_stage() -> None:
    found = rows(read_ledger(OLDER_RUN / "RUN"))
    assert [stage for stage, committed in found.items() if committed] == OLDER_STAGES


def test_an_older_run_verifies(older_run: Path) -> None:
    found = verify(older_run)
    assert found.findings == []
    tip, proof = found.notes  # a resume writes both
    assert "has no ledger.tip.json, as an older version leaves it" in tip
    assert proof.startswith("dataset: an older version proved it")
    assert (
        "no 8 words in a row" in found.verdict and "0 answers quote an instruction" in found.verdict
    )


@pytest.mark.usefixtures("local_ray")
def test_resuming_an_older_run_makes_no_unit_again(older_run: Path) -> None:
    before = {path: path.read_bytes() for path in unit_files(older_run)}
    lines = (older_run / "ledger.jsonl").read_bytes()
    rows = list(dataset_rows(older_run))
    resume(older_run)
    assert (older_run / "ledger.jsonl").read_bytes() == lines
    assert {path: path.read_bytes() for path in unit_files(older_run)} == before
    # The copy lies elsewhere, so the dataset is made again, of the same rows.
    assert list(dataset_rows(older_run)) == rows
    found = verify(older_run)
    assert (found.findings, found.notes) == ([], [])


@pytest.mark.usefixtures("local_ray")
@pytest.mark.parametrize("num_lines", [9, 25])
def test_an_older_run_that_was_cut_short_is_resumed_to_the_same_rows(
    older_run: Path, num_lines: int
) -> None:
    ledger = older_run / "ledger.jsonl"
    lines = ledger.read_bytes().splitlines(keepends=True)
    assert num_lines < len(lines)
    ledger.write_bytes(b"".join(lines[:num_lines]))
    shutil.rmtree(older_run / "dataset")
    resume(older_run)
    assert ledger.read_bytes().splitlines(keepends=True)[:num_lines] == lines[:num_lines]
    if not IS_RAISED:
        assert rows(read_ledger(older_run)) == rows(read_ledger(OLDER_RUN / "RUN"))
        assert list(dataset_rows(older_run)) == list(dataset_rows(OLDER_RUN / "RUN"))
    assert verify(older_run).findings == []


@pytest.mark.usefixtures("local_ray")
def test_a_fork_of_an_older_run_takes_over_the_stages_that_did_not_change(
    older_run: Path, tmp_path: Path
) -> None:
    new = tmp_path / "new"
    said = resume(new, "rationales.max_attempts=3", fork=older_run)
    assert any(
        line.startswith("forked problems, scores, judgements, selections, evaluation_problems")
        for line in said
    ), said
    old_rows, new_rows = rows(read_ledger(older_run)), rows(read_ledger(new))
    for stage in ("problems", "scores", "judgements", "selections", "evaluation"):
        # What is asked anew keeps its ids, which older versions dropped.
        assert [without_ids(row) for row in new_rows[stage]] == old_rows[stage], stage
    assert len(new_rows["rationales"]) >= len(old_rows["rationales"])
    assert verify(new).findings == []


@pytest.mark.parametrize("name", sorted(set(VERSIONS.values()) - LATER))
def test_after_a_version_is_raised_an_older_run_verifies_and_its_resume_is_refused_by_name(
    older_run: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    version = getattr(stage_keys, name)
    monkeypatch.setattr(stage_keys, name, version + 1)
    assert verify(older_run).findings == []
    with pytest.raises(ValueError, match=f"{name} {version} -> {version + 1}") as caught:
        resume(older_run)
    assert "\n" not in str(caught.value) and "--fork" in str(caught.value)


@pytest.mark.parametrize("stage", OLDER_STAGES)
def test_a_field_that_an_older_run_lacks_takes_its_default(older_run: Path, stage: str) -> None:
    record = RECORDS[stage]
    added = [("reasoning", str, dataclasses.field(default="")), ("weight", float, 1.5)]
    newer = dataclasses.make_dataclass(
        record.__name__, added, bases=(record,), frozen=True, kw_only=True, slots=True
    )
    ledger = read_ledger(older_run)
    before, after = committed_rows(ledger, stage, record), committed_rows(ledger, stage, newer)
    assert before and [newer(**shallow(row)) for row in before] == after
    assert {(row.reasoning, row.weight) for row in after} == {("", 1.5)}


def shallow(row: Any) -> dict[str, Any]:
    return {field.name: getattr(row, field.name) for field in dataclasses.fields(row)}


def test_the_older_run_says_by_which_versions_it_was_made() -> None:
    assert MADE_BY.keys() == set(VERSIONS.values()) - LATER


def test_the_older_run_names_no_machine() -> None:
    recorded = json.loads((OLDER_RUN / "RUN" / "config.json").read_text())["config"]
    assert recorded["strategies"] == f"{MADE_AT}/strategies.toml"
    paths = [task["path"] for task in recorded["tasks"]] + [recorded["student"]["tokenizer"]]
    assert all(path.startswith(MADE_AT) for path in paths)
