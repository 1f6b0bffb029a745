from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orca2_gen.config.load import engine_directory
from orca2_gen.dataset.manifest import checked_manifest, read_examples
from orca2_gen.erasure import erase
from orca2_gen.provenance.accounting import RECORDS
from orca2_gen.provenance.verify import verify
from orca2_gen.records import Example, Rationale, Selection, StudentScore
from orca2_gen.run_directory.arrow_files import read_records, write_records
from orca2_gen.run_directory.ledger import Ledger, read_ledger
from orca2_gen.run_directory.units import STAGES, Receipt, UnitName, read_unit, write_unit
from orca2_gen.strategies import load_strategies
from tests.conftest import FinishedRun, dataset_of

# No problem of the undisturbed run is open, so it holds no judgements: tests/ray_jobs/test_judging.
RUN_STAGES = [s for s in STAGES if not s.startswith("evaluation") and s != "judgements"]


def rewrite_ledger(run_dir: Path, change: Callable[[list[Receipt]], list[Receipt]]) -> None:
    """Writes the ledger again with valid checksums: what a bug, not a broken disk, would leave."""
    receipts = change(list(read_ledger(run_dir).units.values()))
    (run_dir / "ledger.jsonl").unlink()
    ledger = Ledger(run_dir=run_dir, writable=True)
    ledger.commit(receipts)
    ledger.write_tip()


def findings_of_changed_score(
    source: Path,
    run_dir: Path,
    is_wanted: Callable[[StudentScore], bool],
    change: Callable[[StudentScore], StudentScore],
) -> list[str]:
    """The findings in a copy of a run in which the first wanted score was changed."""
    shutil.copytree(source, run_dir)
    ledger = read_ledger(run_dir)
    receipt, rows, place = next(
        (receipt, rows, place)
        for receipt in ledger.committed("scores")
        for rows in [read_records(run_dir, receipt.accepted, StudentScore)]
        for place, row in enumerate(rows)
        if is_wanted(row)
    )
    rows[place] = change(rows[place])
    entry = write_records(run_dir, receipt.accepted.path, rows, StudentScore)
    new = dataclasses.replace(receipt, files=(entry, *receipt.files[1:]))
    rewrite_ledger(run_dir, lambda all_: [new if r == receipt else r for r in all_])
    return verify(run_dir).findings


def assert_found(run_dir: Path, *words: str) -> None:
    findings = verify(run_dir).findings
    assert any(all(word in finding for word in words) for finding in findings), findings


def test_a_whole_run_has_no_findings(run_copy: Path) -> None:
    found = verify(run_copy)
    assert (found.findings, found.notes) == ([], [])
    assert [row[0] for row in found.table] == [
        "problems",
        "scores",
        "rationales",
        "examples",
        "dataset",
    ]
    assert all(
        wanted == accepted + rejected + not_needed
        for _, wanted, accepted, rejected, not_needed in found.table
    )


@pytest.mark.parametrize("stage", [*RUN_STAGES, "rejections", "dataset"])
@pytest.mark.parametrize("damage", ["flip", "delete", "cut"])
def test_a_damaged_file_of_any_stage_is_named(run_copy: Path, stage: str, damage: str) -> None:
    victim = sorted((run_copy / stage).glob("*.arrow"))[0]
    body = bytearray(victim.read_bytes())
    if damage == "delete":
        victim.unlink()
    else:
        body[len(body) // 2] ^= 1
        victim.write_bytes(body if damage == "flip" else body[:-1])
    assert_found(run_copy, victim.name)


@pytest.mark.parametrize("stage", RUN_STAGES)
def test_rows_that_stand_in_two_units_are_named(run_copy: Path, stage: str) -> None:
    def double(receipts: list[Receipt]) -> list[Receipt]:
        victim = next(r for r in receipts if r.stage == stage)
        accepted, rejected = read_unit(run_copy, victim, RECORDS[stage])
        name = UnitName(
            stage=stage,
            stage_key=victim.stage_key,
            unit=victim.unit + "-000099",
            group=victim.group,
        )
        again = write_unit(run_copy, name, accepted, RECORDS[stage], rejected, victim.counts)
        return [*receipts, again]

    rewrite_ledger(run_copy, double)
    assert_found(run_copy, stage, "occurs 2 times")


@pytest.mark.parametrize("stage", RUN_STAGES)
def test_counts_that_are_not_the_files_are_named(run_copy: Path, stage: str) -> None:
    def miscount(receipts: list[Receipt]) -> list[Receipt]:
        at = next(n for n, r in enumerate(receipts) if r.stage == stage)
        counts = receipts[at].counts | {"accepted": receipts[at].counts["accepted"] + 1}
        receipts[at] = dataclasses.replace(receipts[at], counts=counts)
        return receipts

    rewrite_ledger(run_copy, miscount)
    assert_found(run_copy, stage, "the ledger counts")


def test_reasons_that_are_not_those_of_the_rejections_are_named(run_copy: Path) -> None:
    def change(receipts: list[Receipt]) -> list[Receipt]:
        at = next(n for n, r in enumerate(receipts) if r.stage == "problems")
        counts = receipts[at].counts | {"rejected.not_json": 7}
        receipts[at] = dataclasses.replace(receipts[at], counts=counts)
        return receipts

    rewrite_ledger(run_copy, change)
    assert_found(run_copy, "problems/", "rejections for {", "'not_json': 7")


def replace_rows(
    run_dir: Path, stage: str, record: Any, change: Callable[[list[Any]], list[Any]]
) -> None:
    """Rewrites one unit's accepted rows together with its entry and counts."""

    def rewrite(receipts: list[Receipt]) -> list[Receipt]:
        at = next(n for n, r in enumerate(receipts) if r.stage == stage and r.counts["accepted"])
        receipt = receipts[at]
        rows = change(read_records(run_dir, receipt.accepted, record))
        entry = write_records(run_dir, receipt.accepted.path, rows, record)
        counts = {"accepted": len(rows), "rejected": receipt.counts["rejected"]}
        counts["input"] = sum(counts.values())
        receipts[at] = dataclasses.replace(
            receipt, files=(entry, *receipt.files[1:]), counts=counts
        )
        return receipts

    rewrite_ledger(run_dir, rewrite)


@pytest.mark.parametrize(("stage", "record"), [("rationales", Rationale), ("examples", Example)])
def test_a_row_that_a_committed_unit_lost_is_named(
    run_copy: Path, stage: str, record: type
) -> None:
    replace_rows(run_copy, stage, record, lambda rows: rows[1:])
    assert_found(run_copy, stage, "took in")


@pytest.mark.parametrize(("stage", "record"), [("rationales", Rationale), ("examples", Example)])
def test_a_row_that_came_from_nowhere_is_named(run_copy: Path, stage: str, record: type) -> None:
    replace_rows(
        run_copy,
        stage,
        record,
        lambda rows: [dataclasses.replace(rows[0], problem_id="sums/train/new"), *rows[1:]],
    )
    assert_found(run_copy, stage, "came from nowhere", "sums/train/new")


def test_a_selection_that_rests_on_other_scores_is_named(run_copy: Path) -> None:
    def inflate(rows: list[Selection]) -> list[Selection]:
        first = rows[0].summaries[0]
        summaries = (
            dataclasses.replace(first, num_scored=first.num_scored - 1),
            *rows[0].summaries[1:],
        )
        return [dataclasses.replace(rows[0], summaries=summaries)]

    replace_rows(run_copy, "selections", Selection, inflate)
    assert_found(run_copy, "scores", "selections rest on")


def rewrite_dataset(
    undisturbed: FinishedRun, run_dir: Path, rows: list[Example], prompts: str
) -> None:
    """A dataset of these rows with a whole manifest that says `prompts`, be it a lie."""
    from orca2_gen.config.load import engine_directory
    from orca2_gen.dataset.write import DatasetPlan

    entry = write_records(run_dir, "examples-other/all.arrow", rows, Example)
    plan = DatasetPlan(
        examples=(entry,),
        tokenizer=engine_directory(undisturbed.config.student),
        prompts="instruction_kept",
        examples_per_shard=1000,
        key="k",
        name="run",
    )
    dataset_of(run_dir, plan, load_strategies(None))
    path = run_dir / "dataset" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"prompts": prompts}))


@pytest.mark.parametrize("prompts", ["erased", "instruction_kept"])
def test_a_dataset_row_with_its_instruction_kept_is_named(
    undisturbed: FinishedRun, run_copy: Path, prompts: str
) -> None:
    from orca2_gen.chat import load_chat
    from orca2_gen.config.load import engine_directory

    rows = list(read_examples(run_copy / "dataset", checked_manifest(run_copy / "dataset")))
    ledger = read_ledger(run_copy)
    rationales = [
        r
        for u in ledger.committed("rationales")
        for r in read_records(run_copy, u.accepted, Rationale)
    ]
    [rationale] = [r for r in rationales if r.problem_id == rows[3].problem_id]
    kept = erase(
        rationale,
        chat=load_chat(engine_directory(undisturbed.config.student)),
        strategies=load_strategies(None),
        prompts="instruction_kept",
        max_tokens=10_000,
    )
    assert isinstance(kept, Example)
    rewrite_dataset(undisturbed, run_copy, [*rows[:3], kept, *rows[4:]], prompts)
    if prompts == "erased":
        assert_found(run_copy, "1 prompts are not erased", kept.problem_id)
    else:
        assert_found(run_copy, "manifest says prompts are instruction_kept")


def test_a_dataset_that_lacks_a_row_is_named(undisturbed: FinishedRun, run_copy: Path) -> None:
    rows = list(read_examples(run_copy / "dataset", checked_manifest(run_copy / "dataset")))
    rewrite_dataset(undisturbed, run_copy, rows[1:], "erased")
    assert_found(run_copy, "dataset", "whose ids are not those")


def test_a_manifest_that_counts_other_rows_is_named(run_copy: Path) -> None:
    path = run_copy / "dataset" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["summary"]["rows"] += 1
    path.write_text(json.dumps(manifest))
    assert_found(run_copy, "dataset", "manifest counts")


def test_files_that_no_line_lists_are_noted_and_are_no_fault(run_copy: Path) -> None:
    late = run_copy / "scores" / "sums-000000.a2-0.arrow"
    late.write_bytes(b"late")
    found = verify(run_copy)
    assert found.findings == []
    assert any(late.name in note for note in found.notes)


def test_what_is_no_run_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no config"):
        verify(tmp_path)


def test_a_recorded_config_that_is_no_config_is_named_without_its_values(run_copy: Path) -> None:
    file = run_copy / "config.json"
    recorded = json.loads(file.read_text())
    recorded["config"]["student"] = {"model": "m", "env": {"HF_TOKEN": "hunter2"}}
    file.write_text(json.dumps(recorded))
    [finding] = verify(run_copy).findings
    assert "HF_TOKEN" in finding and "hunter2" not in finding


def test_other_determinants_than_units_were_made_from_are_found(run_copy: Path) -> None:
    file = run_copy / "config.json"
    body = json.loads(file.read_text())
    body["stages"]["scores"]["max_tokens"] = [1, 2]
    file.write_text(json.dumps(body))
    found = verify(run_copy)
    stages = ("scores", "selections", "rationales", "examples")
    assert [finding.partition(":")[0] for finding in found.findings] == list(stages)
    assert all("config.json records other determinants" in finding for finding in found.findings)


@pytest.mark.parametrize("text", ["cautious_message", "answer_sentence", "instructions"])
def test_a_run_whose_rows_were_made_with_other_texts_than_its_keys_is_found(
    run_copy: Path, text: str
) -> None:
    file = run_copy / "config.json"
    body = json.loads(file.read_text())
    texts = body["strategies"]
    texts[text] = {
        "cautious_message": "Other.",
        "answer_sentence": not texts["answer_sentence"],
        "instructions": [[name, f"Other: {said}"] for name, said in texts["instructions"]],
    }[text]
    file.write_text(json.dumps(body))
    assert any("made with other strategies" in finding for finding in verify(run_copy).findings)


def test_a_cosmetic_change_of_the_tokenizer_is_a_note_and_another_encoding_is_a_fault(
    run_copy: Path, tmp_path: Path, undisturbed: FinishedRun
) -> None:
    tokenizer = Path(engine_directory(undisturbed.config.student))
    moved = Path(shutil.copytree(tokenizer, tmp_path / "moved"))
    config = run_copy / "config.json"
    config.write_text(config.read_text().replace(str(tokenizer), str(moved)))
    assert verify(run_copy).findings == []
    with (moved / "tokenizer_config.json").open("a") as file:
        file.write("\n")
    found = verify(run_copy)
    assert found.findings == [] and any("has changed since" in note for note in found.notes)
    manifest = run_copy / "dataset" / "manifest.json"
    said = json.loads(manifest.read_text()) | {"tokenizer_files": "another"}
    manifest.write_text(json.dumps(said))
    assert any("other than the one that the run recorded" in f for f in verify(run_copy).findings)
