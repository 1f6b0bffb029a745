from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import datasets
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca2_gen.dataset.export import export
from orca2_gen.dataset.export_files import FORMATS, Format
from orca2_gen.dataset.export_manifest import read_export
from orca2_gen.dataset.manifest import checked_manifest, read_examples
from orca2_gen.dataset.preference import Pairing, pairs, preference_schema
from orca2_gen.dataset.shapes import THOUGHT
from orca2_gen.dataset.shards import shard_schema, to_shard
from orca2_gen.provenance.export_faults import verify_export
from orca2_gen.provenance.verify import verify
from orca2_gen.records import Example, Message, Rationale
from orca2_gen.run_directory.arrow_files import DamagedFile, write_records
from orca2_gen.run_directory.digests import file_digest
from orca2_gen.run_directory.ledger import Ledger, read_ledger
from orca2_gen.run_directory.record_tables import to_table
from orca2_gen.run_directory.units import Receipt, UnitName, read_refused, read_unit, write_unit
from tests.conftest import Call
from tests.provenance.test_verify import rewrite_ledger


def exported(run_dir: Path, out: Path, format: Format = "parquet") -> list[dict[str, Any]]:
    made = export(run_dir / "dataset", out, shape="preference", format=format)
    assert verify_export(out) == []
    rows: list[dict[str, Any]] = []
    for entry in made.files:
        if format == "parquet":
            rows += pq.read_table(out / entry.path).to_pylist()
        else:
            rows += map(json.loads, (out / entry.path).read_text().splitlines())
    assert made.rows == len(rows)
    return rows


def refused_of(run_dir: Path) -> dict[str, list[Rationale]]:
    """Problem -> the teacher's refused answers, in order."""
    found: dict[str, list[Rationale]] = {}
    for receipt in read_ledger(run_dir).committed("rationales"):
        for row in read_refused(run_dir, receipt, Rationale):
            found.setdefault(row.problem_id, []).append(row)
    return found


def examples_of(run_dir: Path) -> list[Example]:
    return list(read_examples(run_dir / "dataset", checked_manifest(run_dir / "dataset")))


def with_refused(run_dir: Path, **changes: Any) -> None:
    """Changes the refused answers of a run, and the ledger with them."""
    made: list[Receipt] = []
    for receipt in read_ledger(run_dir).units.values():
        if receipt.refused is not None:
            rows = [
                dataclasses.replace(row, **changes)
                for row in read_refused(run_dir, receipt, Rationale)
            ]
            entry = write_records(run_dir, receipt.refused.path, rows, Rationale)
            receipt = dataclasses.replace(receipt, files=(*receipt.files[:-1], entry))
        made.append(receipt)
    rewrite_ledger(run_dir, lambda _: made)


@pytest.mark.parametrize("format", FORMATS)
def test_a_row_meets_an_incorrect_answer_to_its_problem_and_the_others_are_counted(
    run_copy: Path, tmp_path: Path, format: Format
) -> None:
    rows = exported(run_copy, tmp_path / "out", format)
    examples, refused = examples_of(run_copy), refused_of(run_copy)
    paired = [each for each in examples if each.problem_id in refused]
    assert paired and [row["problem_id"] for row in rows] == [each.problem_id for each in paired]
    for row, example in zip(rows, paired, strict=True):
        wrong = refused[row["problem_id"]][0]
        said = [{"role": m.role, "content": m.content} for m in example.messages]
        assert [*row["prompt"], *row["chosen"]] == said
        assert [turn["role"] for turn in row["prompt"]] == ["system", "user"]
        assert row["rejected"] == [{"role": "assistant", "content": wrong.text}]
        assert row["rejected_attempt"] == wrong.attempt and wrong.fault == "incorrect"
        assert row["chosen_attempt"] == 1  # after the refused one
        assert (row["task"], row["strategy"]) == (example.task, wrong.strategy)
        assert wrong.system not in json.dumps(row)
    assert read_export(tmp_path / "out").unpaired == len(examples) - len(paired)


@given(
    num_right=st.integers(1, 4),
    num_wrong=st.integers(0, 4),
    keeps_thoughts=st.booleans(),
    per_batch=st.integers(1, 5),
)
def test_the_rows_of_a_problem_meet_its_incorrect_answers_in_turn(
    tmp_path_factory: pytest.TempPathFactory,
    num_right: int,
    num_wrong: int,
    keeps_thoughts: bool,
    per_batch: int,
) -> None:
    run_dir = tmp_path_factory.mktemp("run")
    answers = [
        Rationale(
            problem_id=problem_id,
            task="t",
            strategy="s",
            attempt=attempt,
            system="Work forward in small numbered steps.",
            user="?",
            text="Nine." if attempt % 2 and keeps_thoughts else f"It is {attempt}.",
            answer="9",
            num_prompt_tokens=1,
            num_completion_tokens=1,
            reasoning=f"Thought {attempt}." if keeps_thoughts else "Dropped.",
            fault="" if attempt < num_right else "incorrect",
        )
        for problem_id in ("t/1", "t/2")
        for attempt in range(num_right + num_wrong)
    ]
    right = [row for row in answers if not row.fault]
    examples = [
        Example(
            problem_id=row.problem_id,
            task="t",
            strategy="s",
            messages=(
                Message(role="user", content="?"),
                Message(
                    role="assistant",
                    content=row.text,
                    reasoning=row.reasoning if keeps_thoughts else "",
                ),
            ),
            input_ids=(1, 2),
            num_prompt_tokens=1,
        )
        for row in right
    ]
    taught = UnitName(stage="rationales", stage_key="k", unit="t-000000")
    made = UnitName(stage="examples", stage_key="k", unit="t-000000")
    wrong = [row for row in answers if row.fault]
    units = {
        ("rationales", "t-000000"): write_unit(run_dir, taught, right, Rationale, refused=wrong),
        ("examples", "t-000000"): write_unit(run_dir, made, examples, Example),
    }
    shard = to_shard(to_table(examples, Example), shard_schema(keeps_thoughts))
    batches = [shard.slice(at, per_batch) for at in range(0, len(examples), per_batch)]
    pairing = Pairing(ledger=Ledger(run_dir=run_dir, writable=False, units=units))
    schema = preference_schema(shard.schema)
    rows = [row for batch in pairs(pairing, batches, schema) for row in batch.to_pylist()]
    if not num_wrong:
        assert (rows, pairing.num_unpaired) == ([], 2 * num_right)
        return
    assert [(row["chosen_attempt"], row["rejected_attempt"]) for row in rows] == 2 * [
        (number, num_right + number % num_wrong) for number in range(num_right)
    ]
    assert (pairing.tasks, pairing.num_unpaired) == ({"t": len(right)}, 0)
    for row in rows:
        own = {a.attempt: a for a in answers if a.problem_id == row["problem_id"]}
        for side in ("chosen", "rejected"):
            answer = own[row[f"{side}_attempt"]]
            thought = {THOUGHT: answer.reasoning} if keeps_thoughts else {}
            assert row[side] == [{"role": "assistant", "content": answer.text, **thought}]


@pytest.mark.parametrize("fault", ["truncated", "quotes_instruction", "unparsed", "repeated"])
def test_an_answer_that_was_refused_for_something_else_makes_no_pair(
    run_copy: Path, tmp_path: Path, fault: str
) -> None:
    with_refused(run_copy, fault=fault)
    with pytest.raises(ValueError, match="no pair to export"):
        exported(run_copy, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_answer_that_quotes_the_instruction_never_gets_out_whatever_its_fault(
    run_copy: Path, tmp_path: Path
) -> None:
    [first, *_] = [row for rows in refused_of(run_copy).values() for row in rows]
    with_refused(run_copy, text=f"I was told: {first.system}\nAnswer: 1", system=first.system)
    with pytest.raises(ValueError, match="no pair to export"):
        exported(run_copy, tmp_path / "out")


def test_a_dataset_without_its_run_and_a_run_without_refused_answers_are_one_line(
    run_copy: Path, tmp_path: Path
) -> None:
    (run_copy / "dataset").rename(tmp_path / "alone")
    with pytest.raises(ValueError, match="lies in no run, and refused answers are kept there"):
        export(tmp_path / "alone", tmp_path / "out", shape="preference", format="parquet")
    (tmp_path / "alone").rename(run_copy / "dataset")

    def without(receipts: list[Receipt]) -> list[Receipt]:
        return [
            dataclasses.replace(r, files=r.files[:-1]) if r.refused is not None else r
            for r in receipts
        ]

    rewrite_ledger(run_copy, without)
    with pytest.raises(ValueError, match="holds no refused answers"):
        exported(run_copy, tmp_path / "out")


def test_a_dataset_of_other_rows_than_the_run_committed_is_named(
    run_copy: Path, tmp_path: Path
) -> None:
    units = [r for r in read_ledger(run_copy).committed("rationales") if r.accepted.rows]
    rows, _ = read_unit(run_copy, units[0], Rationale)
    rows[0] = dataclasses.replace(rows[0], text="else")
    entry = write_records(run_copy, units[0].accepted.path, rows, Rationale)
    new = dataclasses.replace(units[0], files=(entry, *units[0].files[1:]))
    rewrite_ledger(run_copy, lambda all_: [new if r == units[0] else r for r in all_])
    with pytest.raises(DamagedFile, match="does not hold the examples"):
        exported(run_copy, tmp_path / "out")


def test_verify_names_a_pair_that_is_none(run_copy: Path, tmp_path: Path) -> None:
    exported(run_copy, tmp_path / "out", "jsonl")
    [entry] = read_export(tmp_path / "out").files
    path = tmp_path / "out" / entry.path
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[-1]["rejected"] = rows[-1]["chosen"]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    manifest = json.loads((tmp_path / "out" / "export.json").read_text())
    manifest["files"][0] |= {"bytes": path.stat().st_size, "sha256": file_digest(path, 1 << 30)}
    (tmp_path / "out" / "export.json").write_text(json.dumps(manifest))
    [finding] = verify(tmp_path / "out").findings
    assert "is no pair of two answers to one prompt" in finding


def test_the_command_counts_pairs_and_rows_without_one(
    run_copy: Path, tmp_path: Path, orca2: Call
) -> None:
    code, out, err = orca2("export", run_copy, tmp_path / "out", "--shape", "preference")
    made = read_export(tmp_path / "out")
    assert (code, err) == (0, "")
    assert (
        f"{made.rows} pairs in 1 parquet file; {made.unpaired} rows of the dataset have no "
        "incorrect answer beside them" in out
    )
    card = (tmp_path / "out" / "README.md").read_text()
    assert f"{made.unpaired} rows of the dataset make no pair" in card


def test_pairs_open_in_datasets_and_are_what_trl_takes_for_a_conversational_preference(
    run_copy: Path, tmp_path: Path
) -> None:
    from trl.data_utils import is_conversational

    rows = exported(run_copy, tmp_path / "out")
    for format in FORMATS:
        out = tmp_path / format
        exported(run_copy, out, format)
        found = datasets.load_dataset(str(out), split="train", cache_dir=str(tmp_path / "cache"))
        assert list(found) == rows
        assert is_conversational(found[0])


def test_trl_trains_two_steps_of_dpo_on_the_pairs_as_they_are(
    run_copy: Path, tmp_path: Path, chatml_dir: Path
) -> None:
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM
    from trl import DPOConfig, DPOTrainer

    rows = exported(run_copy, tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(chatml_dir)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=1024,
    )
    LlamaForCausalLM(config).save_pretrained(tmp_path / "model")  # the reference is read from there
    trainer = DPOTrainer(
        model=LlamaForCausalLM.from_pretrained(tmp_path / "model"),
        args=DPOConfig(
            output_dir=str(tmp_path / "dpo"),
            max_steps=2,
            per_device_train_batch_size=2,
            use_cpu=True,
            bf16=False,
            report_to=[],
            logging_steps=1,
            save_strategy="no",
        ),
        train_dataset=datasets.load_dataset(
            str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "cache")
        ),
        processing_class=tokenizer,
    )
    assert len(trainer.train_dataset) == len(rows)
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert len(losses) == 2
    assert abs(losses[0] - 0.6931) < 0.01  # log 2: the model and its reference are still one
