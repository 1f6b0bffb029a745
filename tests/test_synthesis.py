from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from orca2_gen.config.load import load_config
from orca2_gen.records import Completion, Problem, Rationale
from orca2_gen.run_directory.arrow_files import read_records
from orca2_gen.run_directory.ledger import Ledger, read_ledger
from orca2_gen.run_directory.units import UnitName, write_unit
from orca2_gen.strategies import load_strategies
from orca2_gen.synthesis import REQUEST, STRATEGY, synthesis_config, write_task_file
from orca2_gen.tasks.read import TaskSource, read_task
from tests.conftest import Write


def test_only_the_teacher_and_how_it_is_asked_are_the_configs(
    write_config: Write, tmp_path: Path
) -> None:
    config = load_config(write_config(), ["rationales.max_attempts=7", "teacher.max_num_seqs=9"])
    found = synthesis_config(config, tmp_path / "topics.jsonl", tmp_path / "kept")
    assert found.teacher == config.teacher and found.rationales.max_attempts == 7
    assert not found.rationales.verify, "a conversation has no gold"
    assert (found.run_dir, found.selection.policy) == (str(tmp_path / "kept"), f"fixed:{STRATEGY}")
    [task] = found.tasks
    assert task.path == str(tmp_path / "topics.jsonl")
    assert load_strategies(found.strategies).names == (STRATEGY,)
    assert len(load_strategies(found.strategies).further_calls[STRATEGY]) == 1


def completion(topic: str, call: int, text: str) -> Completion:
    return Completion(
        problem_id=topic,
        role="teacher",
        strategy=STRATEGY,
        call=call,
        attempt=0,
        text=text,
        finish_reason="stop",
        num_prompt_tokens=1,
        num_cached_tokens=0,
        num_completion_tokens=1,
    )


def written(run_dir: Path, texts: dict[str, tuple[str, str]], **more: Any) -> Ledger:
    """A run that wrote these conversations and summaries on these topics."""
    ledger = read_ledger(run_dir, writable=True)
    topics = [
        Problem(
            problem_id=f"topics/train/{name}",
            task="topics",
            question=f"About {name}",
            target="-",
            answer_type="summary",
            **more,
        )
        for name in texts
    ]
    rationales = [
        Rationale(
            problem_id=topic.problem_id,
            task="topics",
            strategy=STRATEGY,
            attempt=0,
            system="",
            user=topic.question,
            text="\n\n".join(pair),
            answer="",
            num_prompt_tokens=2,
            num_completion_tokens=2,
            completions=tuple(
                completion(topic.problem_id, call, text) for call, text in enumerate(pair)
            ),
        )
        for topic, pair in zip(topics, texts.values(), strict=True)
    ]
    for stage, rows, record in (
        ("problems", topics, Problem),
        ("rationales", rationales, Rationale),
    ):
        name = UnitName(stage=stage, stage_key="k", unit="topics-000000", group="topics")
        ledger.commit([write_unit(run_dir, name, rows, record)])
    return ledger


@pytest.mark.parametrize("category", ["", "medicine"])
def test_what_is_written_reads_back_as_a_summary_task(tmp_path: Path, category: str) -> None:
    texts = {
        "tea": ("Ana: Green?\nBen: Black.\n", " Ben wants black tea. "),
        "rain": ('Ana: "Rain?"\n\nBen: \u00fcberall', "It rains."),
    }
    ledger = written(tmp_path / "run", texts, category=category)
    out = tmp_path / "new" / "conversations.jsonl"
    assert write_task_file(ledger, out) == 2
    source = TaskSource(
        name="talks", format="jsonl", path=out, split="train", answer_type="summary"
    )
    problems = list(read_task(source).rows)
    assert all(isinstance(problem, Problem) for problem in problems)
    for problem, (name, (conversation, summary)) in zip(problems, texts.items(), strict=True):
        assert isinstance(problem, Problem)
        assert problem.problem_id == f"talks/train/{name}"
        assert problem.question == f"{conversation.strip()}\n\n{REQUEST}"
        assert (problem.target, problem.category) == (summary.strip(), category)
    assert [json.loads(line)["topic"] for line in out.read_text().splitlines()] == [
        "About tea",
        "About rain",
    ]


def test_several_conversations_on_a_topic_have_ids_of_their_own(tmp_path: Path) -> None:
    ledger = written(tmp_path / "run", {"tea": ("Ana: Green?", "Tea."), "tea%2F1": ("Hm?", "No.")})
    receipt = ledger.units["rationales", "topics-000000"]
    rows = read_records(ledger.run_dir, receipt.accepted, Rationale)
    further = [dataclasses.replace(row, attempt=attempt) for row in rows for attempt in (1, 2)]
    name = UnitName(stage="rationales", stage_key="k", unit="topics-000000", group="topics")
    new = write_unit(ledger.run_dir, name, further, Rationale)
    out = tmp_path / "conversations.jsonl"
    assert (
        write_task_file(
            dataclasses.replace(
                ledger, units=ledger.units | {("rationales", "topics-000000"): new}
            ),
            out,
        )
        == 4
    )
    ids = [json.loads(line)["id"] for line in out.read_text().splitlines()]
    assert ids[0] == "tea" and len(set(ids)) == 4


def test_nothing_written_is_an_empty_file(tmp_path: Path) -> None:
    assert write_task_file(read_ledger(tmp_path), tmp_path / "none.jsonl") == 0
    assert (tmp_path / "none.jsonl").read_bytes() == b""
