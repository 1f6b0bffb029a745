"""Stages that need no engine, called as plain functions, without Ray."""

from __future__ import annotations

import asyncio
import dataclasses
import gzip
import json
from collections import Counter
from pathlib import Path

import pytest

from orca2_gen.chat import encode_text, load_chat
from orca2_gen.config.arguments import rooms
from orca2_gen.config.load import engine_directory, load_config
from orca2_gen.config.schema import Config
from orca2_gen.lengths import length_budget
from orca2_gen.prompts import user_text
from orca2_gen.provenance.inputs import read_inputs
from orca2_gen.provenance.lineage import lineage_faults
from orca2_gen.rationales import teach
from orca2_gen.records import Example, Problem, Rationale, Rejection
from orca2_gen.run_directory.arrow_files import read_records
from orca2_gen.run_directory.digests import ChangedInput
from orca2_gen.run_directory.ledger import Ledger, read_ledger
from orca2_gen.run_directory.units import Receipt, UnitName, write_unit
from orca2_gen.scripted_engine import ScriptedEngine, planted_script
from orca2_gen.selection.blocks import Group
from orca2_gen.strategies import load_strategies
from orca2_gen.tasks.counts import counts_by_task
from orca2_gen.tasks.pools import question_key
from ray_jobs.dispatch.leases import DecidedGroup, ReadLease, UnitLease
from ray_jobs.file_stages import erase_rationales, read_problems, select_strategy
from tests.conftest import NUM_BAD, NUM_SUMS, Write, rule_of
from tests.dataset.batches import proof_over
from tests.provenance.test_lineage import change_first_row
from tests.test_rationales import ASKING

FEW_SHOT = "tasks.0.few_shot=[3, 5]"


def read_units(
    config: Config, run_dir: Path, committed: frozenset[str] = frozenset()
) -> list[Receipt]:
    lease = ReadLease(
        task=config.tasks[0],
        rows_per_unit=config.rows_per_unit,
        rooms=rooms(config, load_strategies(config.strategies)),
        stage="problems",
        stage_key="k",
        driver="0",
        committed=committed,
    )
    return list(read_problems(run_dir, config, read_inputs(config), lease))


def problems_in(run_dir: Path, receipts: list[Receipt]) -> list[Problem]:
    return [p for r in receipts for p in read_records(run_dir, r.accepted, Problem)]


def rejections_in(run_dir: Path, receipts: list[Receipt]) -> list[Rejection]:
    files = [r.rejections for r in receipts if r.rejections is not None]
    return [row for entry in files for row in read_records(run_dir, entry, Rejection)]


@pytest.mark.parametrize("rows_per_unit", [1, 7, 100])
def test_examples_depend_neither_on_the_size_of_units_nor_on_where_a_run_goes_on(
    write_config: Write, tmp_path: Path, rows_per_unit: int
) -> None:
    file = write_config()
    whole = load_config(file, [FEW_SHOT])
    expected = problems_in(tmp_path / "a", read_units(whole, tmp_path / "a"))
    assert len(expected) == NUM_SUMS and all(3 <= len(p.examples) <= 5 for p in expected)
    config = load_config(file, [FEW_SHOT, f"rows_per_unit={rows_per_unit}"])
    receipts = read_units(config, tmp_path / "b")
    assert problems_in(tmp_path / "b", receipts) == expected
    assert len(rejections_in(tmp_path / "b", receipts)) == NUM_BAD
    first = receipts[: len(receipts) // 2]
    rest = read_units(config, tmp_path / "c", frozenset(r.unit for r in first))
    again = problems_in(tmp_path / "b", first) + problems_in(tmp_path / "c", rest)
    assert again == expected


def test_questions_of_the_evaluation_are_no_examples_of_a_run(
    write_config: Write, tmp_path: Path
) -> None:
    asked = [f"what is {n} +  {2 * n + 3}?" for n in range(0, NUM_SUMS, 2)]
    rows = [{"prompt": question, "label": "1"} for question in asked]
    held_out = tmp_path / "held_out.jsonl"
    held_out.write_text("".join(json.dumps(row) + "\n" for row in rows))
    sections = (
        "[[evaluation.tasks]]\nname = 'e'\nformat = 'jsonl'\npath = 'held_out.jsonl'\n"
        'columns = { question = "prompt", answer = "label" }\n'
    )
    config = load_config(write_config(sections=sections), [FEW_SHOT])
    found = problems_in(tmp_path, read_units(config, tmp_path))
    shown = {question_key(shot.question) for p in found for shot in p.examples}
    assert len(shown) == NUM_SUMS // 2 and shown.isdisjoint(map(question_key, asked))


def test_a_context_that_is_too_long_is_rejected_and_a_row_that_is_too_long_is_no_example(
    write_config: Write, tmp_path: Path
) -> None:
    file = write_config()
    strategies = load_strategies(None)
    short = [f"{key}=16" for key in ("scoring.max_tokens", "scoring.retry_max_tokens")]
    short.append("rationales.max_tokens=16")
    config = load_config(file, short)
    with (tmp_path / "sums.jsonl").open("a") as tasks:
        row = {"id": "long", "question": "What is 1 + 2" + " + 0" * 9_000, "answer": "3"}
        tasks.write(json.dumps(row) + "\n")
    receipts = read_units(config, tmp_path / "zero")
    zero = problems_in(tmp_path / "zero", receipts)
    [long] = [r for r in rejections_in(tmp_path / "zero", receipts) if "long" in r.reason]
    assert (long.problem_id, long.reason) == ("sums/train/long", "prompt_too_long")

    few = read_units(load_config(file, [*short, FEW_SHOT]), tmp_path / "few")
    found = problems_in(tmp_path / "few", few)
    assert [p.problem_id for p in found] == [p.problem_id for p in zero]
    assert max(len(s.question) for p in found for s in p.examples) < 100

    room = rooms(config, strategies)[0]
    budget = length_budget(room, load_chat(room.tokenizer), strategies)
    longest = max(len(encode_text(budget.chat, user_text(p, strategies))) for p in zero)
    answer = budget.answer_tokens(zero[0])
    fitting = f"student.max_model_len={budget.frame_tokens + longest + answer}"
    tight = read_units(load_config(file, [*short, FEW_SHOT, fitting]), tmp_path / "tight")
    assert problems_in(tmp_path / "tight", tight) == []
    reasons = [r.reason for r in rejections_in(tmp_path / "tight", tight)]
    assert reasons.count("prompt_too_long") == NUM_SUMS + 1


def test_too_few_examples_reject_the_row_under_its_id(write_config: Write, tmp_path: Path) -> None:
    config = load_config(write_config(), [FEW_SHOT])
    (tmp_path / "sums.jsonl").write_text(
        "".join(json.dumps({"question": f"{n}?", "answer": "1"}) + "\n" for n in range(3))
    )
    receipts = read_units(config, tmp_path)
    assert problems_in(tmp_path, receipts) == []
    found = rejections_in(tmp_path, receipts)
    assert [r.problem_id for r in found] == [f"sums/train/{n}" for n in range(3)]
    assert {(r.stage, r.reason) for r in found} == {("problems", "too_few_examples")}
    assert all("at least 3" in r.detail and "found 2 " in r.detail for r in found)


def commit_run(config: Config, run_dir: Path) -> Ledger:
    """The ledger of a run of one task under a fixed strategy, from reading to examples."""
    ledger, strategies = read_ledger(run_dir, writable=True), load_strategies(None)
    chat = load_chat(engine_directory(config.student))
    receipts = read_units(config, run_dir)
    ledger.commit(receipts)
    problems = problems_in(run_dir, receipts)
    inputs = read_inputs(config)
    group = Group(name="sums", num_problems=len(problems), num_groups=1)
    lease = UnitLease(
        name=UnitName(stage="selections", stage_key="k", unit="sums", group="sums"),
        made_from=DecidedGroup(group=group, rule=rule_of(config), blocks=()),
        what="selecting",
    )
    ledger.commit(select_strategy(run_dir, config, inputs, lease))
    script = planted_script(
        {p.problem_id: p for p in problems},
        {"step_by_step": 1.0},
        run_seed=0,
        read=chat.data_tokenizer.decode,
    )
    engine = ScriptedEngine(chat, script)
    for receipt in receipts:
        taught = [
            rationale
            for problem in problems_in(run_dir, [receipt])
            for rationale in asyncio.run(
                teach(
                    problem,
                    "step_by_step",
                    engine=engine,
                    chat=chat,
                    strategies=strategies,
                    asking=ASKING,
                )
            ).rationales
        ]
        name = UnitName(stage="rationales", stage_key="k", unit=receipt.unit, group="sums")
        ledger.commit([write_unit(run_dir, name, taught, Rationale)])
        rationales = ledger.units["rationales", receipt.unit].accepted
        name = UnitName(stage="examples", stage_key="k", unit=receipt.unit, group="sums")
        erasing = UnitLease(name=name, made_from=rationales, what="erasing")
        ledger.commit(erase_rationales(run_dir, config, inputs, erasing))
    return ledger


def test_a_few_shot_run_follows_from_its_rows_and_is_proved(
    write_config: Write, tmp_path: Path
) -> None:
    config = load_config(write_config(selection='policy = "fixed:step_by_step"'), [FEW_SHOT])
    ledger, strategies = commit_run(config, tmp_path), load_strategies(None)
    assert list(lineage_faults(ledger, config, strategies)) == []
    examples = [
        example
        for receipt in ledger.committed("examples")
        for example in read_records(tmp_path, receipt.accepted, Example)
    ]
    chat = load_chat(engine_directory(config.student))
    assert len(examples) == NUM_SUMS
    assert all("Example 3:" in example.messages[1].content for example in examples)
    assert proof_over(examples, chat=chat, strategies=strategies).holds


def test_an_example_that_was_changed_after_the_teacher_saw_it_is_found(
    write_config: Write, tmp_path: Path
) -> None:
    config = load_config(write_config(selection='policy = "fixed:step_by_step"'), [FEW_SHOT])
    commit_run(config, tmp_path)

    def other_answer(problem: Problem) -> Problem:
        first = dataclasses.replace(problem.examples[0], target="1000")
        return dataclasses.replace(problem, examples=(first, *problem.examples[1:]))

    change_first_row(tmp_path, "problems", Problem, other_answer)
    [fault] = lineage_faults(read_ledger(tmp_path), config, load_strategies(None))
    assert "asks something other than its problem" in fault


def test_receipts_count_every_rejection_by_its_reason_and_add_up_wherever_a_run_goes_on(
    write_config: Write, tmp_path: Path
) -> None:
    file = write_config()
    lines = ["{", '{"question": "no answer?"}', json.dumps({"question": "x " * 9_000, "answer": 1})]
    with (tmp_path / "sums.jsonl").open("a") as tasks:
        tasks.write("\n".join(lines) + "\n" + '{"question": "cut sho')
    ledger = read_ledger(tmp_path / "run", writable=True)
    config = load_config(file, ["rows_per_unit=3"])
    receipts = read_units(config, tmp_path / "run")
    ledger.commit(receipts[::2])
    committed = frozenset(receipt.unit for receipt in ledger.committed("problems"))
    ledger.commit(read_units(config, tmp_path / "run", committed))
    [counts] = counts_by_task(ledger, "problems").values()
    rejected = Counter(row.reason for row in rejections_in(tmp_path / "run", receipts))
    assert counts.reasons == rejected and rejected["prompt_too_long"] == 1
    assert rejected["not_json"] == 3, "a last line that is cut is a row like any other"
    assert (counts.task, counts.accepted, counts.rejected) == ("sums", NUM_SUMS, NUM_BAD + 4)
    assert counts.input == NUM_SUMS + NUM_BAD + 4


def test_a_sample_that_falls_short_is_counted_and_told(write_config: Write, tmp_path: Path) -> None:
    sampled = load_config(write_config(), ["tasks.0.rows_per_task=100", "rows_per_unit=5"])
    ledger = read_ledger(tmp_path / "run", writable=True)
    ledger.commit(read_units(sampled, tmp_path / "run"))
    [counts] = counts_by_task(ledger, "problems").values()
    assert counts.fell_short == 1 and "1 of its samples gave fewer problems" in counts.sentence


def test_a_file_emptied_or_cut_after_the_run_began_is_a_changed_input(
    write_config: Write, tmp_path: Path
) -> None:
    whole = gzip.compress((write_config().parent / "sums.jsonl").read_bytes())
    path = tmp_path / "sums.jsonl.gz"
    for content in (b"", whole[:-9]):
        path.write_bytes(whole)
        config = load_config(tmp_path / "run.toml", [f"tasks.0.path={path}"])
        inputs = read_inputs(config)
        lease = ReadLease(
            task=config.tasks[0],
            rows_per_unit=4,
            rooms=rooms(config, load_strategies(None)),
            stage="problems",
            stage_key="k",
            driver="0",
            committed=frozenset(),
        )
        reading = read_problems(tmp_path / "run", config, inputs, lease)
        path.write_bytes(content)
        with pytest.raises(ChangedInput, match="has changed since this run began"):
            list(reading)


@pytest.mark.parametrize("content", [b"", b"\n\n"])
def test_a_task_without_rows_and_one_cut_off_are_refused_before_any_row_is_read(
    write_config: Write, tmp_path: Path, content: bytes
) -> None:
    file = write_config()
    (tmp_path / "sums.jsonl").write_bytes(content)
    with pytest.raises(ValueError, match=r"task 'sums': .*sums\.jsonl: it holds no rows"):
        read_inputs(load_config(file))
    path = tmp_path / "sums.jsonl.gz"
    path.write_bytes(gzip.compress(b"{}\n" * 500)[:-1])
    with pytest.raises(ValueError, match=r"sums\.jsonl\.gz: the gzip data ends early"):
        read_inputs(load_config(file, [f"tasks.0.path={path}"]))
