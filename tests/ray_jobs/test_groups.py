from __future__ import annotations

import dataclasses
import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from orca2_gen.calls import compose
from orca2_gen.config.load import load_config
from orca2_gen.dataset.manifest import checked_manifest, read_examples
from orca2_gen.provenance.verify import verify
from orca2_gen.records import Problem, Rationale, Selection, StudentScore
from orca2_gen.run_directory.arrow_files import read_records
from orca2_gen.run_directory.ledger import Ledger, read_ledger
from orca2_gen.strategies import load_strategies
from ray_jobs.pipeline import read_tasks, run_all, score_student, select_strategies
from ray_jobs.run import open_run
from ray_jobs.units import committed_problems
from tests.conftest import Write, quiet, write_run_config
from tests.provenance.test_verify import findings_of_changed_score

pytestmark = pytest.mark.usefixtures("local_ray")

CATEGORIES = ("logic", "sums & co.", "")
SUB_CATEGORIES = ("puzzles", "")
R = TypeVar("R")

STRATEGIES = """
cautious_message = "Be careful, and choose your own way."
answer_sentence = true
[[strategy]]
name = "direct_answer"
instruction = "Say the answer and nothing besides it, please."
[[strategy]]
name = "extract_generate"
instruction = "Quote whatever decides the question, line by line, and wait."
further_calls = ["Now answer from what you have quoted, and from nothing else."]
[[instruction]]
strategy = "extract_generate"
category = "logic"
sub_category = "puzzles"
instruction = "Quote the clues of the puzzle one by one, and wait."
"""


def mixed_config(folder: Path, file: Path, more: str = "") -> Path:
    """The scripted run's config, over two task files that mix categories."""
    for name, offset in (("sums", 0), ("letters", 100)):
        rows = [
            {
                "question": f"What is {n + offset} + 1?",
                "answer": str(n + offset + 1),
                "category": CATEGORIES[n % 3],
                "sub_category": SUB_CATEGORIES[n % 2] if n % 3 == 0 else "",
            }
            for n in range(30)
        ]
        lines = "\n".join(["{not json", *map(json.dumps, rows)])
        (folder / f"{name}.jsonl").write_text(lines + "\n")
    (folder / "own.toml").write_text(STRATEGIES)
    text = file.read_text().replace('name = "letters"', 'name = "letters"\nanswer_type = "numeric"')
    text = text.replace("rows_per_unit = 8", 'rows_per_unit = 8\nstrategies = "own.toml"')
    text = text.replace("step_by_step", "extract_generate")
    text = text.replace(", recall_reason_generate = 0.9", "")
    file.write_text(text + more)
    return file


def rows_of(ledger: Ledger, stage: str, record: type[R]) -> list[tuple[str, R]]:
    """(group, row) of every accepted row of a stage."""
    return [
        (receipt.group, row)
        for receipt in ledger.committed(stage)
        for row in read_records(ledger.run_dir, receipt.accepted, record)
    ]


def finished(file: Path, *overrides: str) -> Ledger:
    config = load_config(file, overrides)
    with open_run(config, quiet) as run:
        run_all(run)
    found = verify(Path(config.run_dir))
    assert (found.findings, found.notes) == ([], [])
    return read_ledger(Path(config.run_dir))


def selected(file: Path, *overrides: str) -> Ledger:
    """The ledger of a run that has selected and taught nothing."""
    with open_run(load_config(file, overrides), quiet) as run:
        read_tasks(run)
        score_student(run)
        select_strategies(run)
    assert verify(run.run_dir).findings == []
    return read_ledger(run.run_dir)


@dataclasses.dataclass(frozen=True)
class MixedRun:
    """A whole run over two task files that mix categories; tests copy it before they change it."""

    config_file: Path
    ledger: Ledger


def mixed_run(folder: Path, tokenizer: Path, **sections: str) -> MixedRun:
    file = mixed_config(folder, write_run_config(folder, tokenizer, **sections))
    return MixedRun(config_file=file, ledger=finished(file))


@pytest.fixture(scope="module")
def by_task(
    tmp_path_factory: pytest.TempPathFactory, chatml_dir: Path, local_ray: None
) -> MixedRun:
    return mixed_run(tmp_path_factory.mktemp("by_task"), chatml_dir)


@pytest.fixture(scope="module")
def by_category(
    tmp_path_factory: pytest.TempPathFactory, chatml_dir: Path, local_ray: None
) -> MixedRun:
    selection = 'select_by = "category"\nmethod = "full_grid"'
    return mixed_run(tmp_path_factory.mktemp("by_category"), chatml_dir, selection=selection)


RACE, OVERLAPPED = "selection.method=race", "dispatch.schedule=overlapped"


@pytest.mark.parametrize(
    "sets",
    [(), (RACE,), (OVERLAPPED,), (RACE, OVERLAPPED)],
    ids=["phased-full_grid", "phased-race", "overlapped-full_grid", "overlapped-race"],
)
def test_by_category_every_category_gets_one_strategy_over_all_task_files(
    by_category: MixedRun, tmp_path: Path, sets: tuple[str, ...]
) -> None:
    ledger = by_category.ledger
    if sets:
        ledger = finished(by_category.config_file, f"run_dir={tmp_path / 'run'}", *sets)
    problems = rows_of(ledger, "problems", Problem)
    assert Counter(group for group, _ in problems) == Counter(
        p.category or p.task for _, p in problems
    )
    chosen = {s.group: s for _, s in rows_of(ledger, "selections", Selection)}
    assert set(chosen) == {"logic", "sums & co.", "sums", "letters"}
    assert chosen["logic"].num_problems == 20 and chosen["logic"].num_scored_problems <= 12
    scored = {problem_id.split("/")[0] for group, problem_id in _ids(ledger) if group == "logic"}
    assert scored == {"sums", "letters"}, "a category is scored across its tasks"
    for group, rationale in rows_of(ledger, "rationales", Rationale):
        assert rationale.strategy == chosen[group].strategy


def _ids(ledger: Ledger) -> list[tuple[str, str]]:
    return [(group, score.problem_id) for group, score in rows_of(ledger, "scores", StudentScore)]


def test_the_order_of_the_configs_tasks_changes_nothing_in_a_category(
    by_category: MixedRun, tmp_path: Path
) -> None:
    run_dir = Path(shutil.copytree(by_category.ledger.run_dir, tmp_path / "run"))
    lines = (run_dir / "ledger.jsonl").read_bytes()
    head, first, second = by_category.config_file.read_text().split("[[tasks]]")
    second, section, rest = second.partition("[student]")
    file = by_category.config_file.with_name("other_order.toml")
    file.write_text(f"{head}[[tasks]]{second}[[tasks]]{first}{section}{rest}")
    config = load_config(file, [f"run_dir={run_dir}"])
    assert [task.name for task in config.tasks] == ["letters", "sums"]
    with open_run(config, quiet) as run:
        again = committed_problems(run)
        assert [r.unit for r in again["logic"]] == sorted(r.unit for r in again["logic"])
        run_all(run)
    assert (run_dir / "ledger.jsonl").read_bytes() == lines


def test_by_sub_category_groups_are_finer_and_the_ids_of_problems_stay(
    by_task: MixedRun, tmp_path: Path
) -> None:
    sets = (f"run_dir={tmp_path / 'finer'}", "selection.select_by=sub_category")
    finer = selected(by_task.config_file, *sets)
    assert {s.group for _, s in rows_of(finer, "selections", Selection)} == {
        "logic / puzzles",
        "logic",
        "sums & co.",
        "sums",
        "letters",
    }
    ids = [
        {p.problem_id for _, p in rows_of(ledger, "problems", Problem)}
        for ledger in (by_task.ledger, finer)
    ]
    assert ids[0] == ids[1]


def test_calls_and_special_instructions_go_all_the_way_to_the_dataset(
    tmp_path: Path, write_config: Write
) -> None:
    file = mixed_config(tmp_path, write_config(selection='policy = "fixed:extract_generate"'))
    ledger = finished(file)
    strategies = load_strategies(str(tmp_path / "own.toml"))
    category = {p.problem_id: p for _, p in rows_of(ledger, "problems", Problem)}
    taught = {r.problem_id: r for _, r in rows_of(ledger, "rationales", Rationale)}
    told = Counter()
    for problem_id, rationale in taught.items():
        system = strategies.system_message("extract_generate", category[problem_id])
        assert rationale.system == system
        assert rationale.further_calls == strategies.further_calls["extract_generate"]
        assert [c.call for c in rationale.completions] == [0, 1]
        assert rationale.text == compose(rationale.completions).text
        told[system] += 1
    assert len(told) == 2
    root = ledger.run_dir / "dataset"
    manifest = checked_manifest(root)
    assert manifest.proof is not None
    assert set(manifest.proof.instructions_sha256) == set(strategies.every_instruction)
    for example in read_examples(root, manifest):
        assert example.messages[-1].content == taught[example.problem_id].text
        texts = " ".join(message.content for message in example.messages)
        hidden = [*strategies.every_instruction.values(), *taught[example.problem_id].further_calls]
        assert not any(text in texts for text in hidden)


def test_a_student_that_is_cut_short_is_asked_once_more_before_its_task_is_decided(
    tmp_path: Path, write_config: Write
) -> None:
    file = write_config(sections="[scoring]\nmax_tokens = 16\nretry_max_tokens = 400")
    ledger = finished(file)
    scores = [score for _, score in rows_of(ledger, "scores", StudentScore)]
    again = [score for score in scores if score.attempt == 1]
    assert again and {score.finish_reason for score in scores} == {"stop"}
    for score in again:
        first, second = score.completions
        assert (first.finish_reason, first.num_completion_tokens) == ("length", 16)
        assert second.text == score.text
    counted = sum(r.counts["completion_tokens"] for r in ledger.committed("scores"))
    kept = sum(score.num_completion_tokens for score in scores)
    assert counted == kept + 16 * len(again)
    findings = findings_of_changed_score(
        ledger.run_dir,
        tmp_path / "without its first attempt",
        lambda score: score.attempt == 1,
        lambda score: dataclasses.replace(score, completions=()),
    )
    assert any("is not what its calls said" in finding for finding in findings)
    silent = ["scoring.retry_max_tokens=16", "scoring.ask_again=none"]
    once = selected(file, f"run_dir={tmp_path / 'once'}", *silent)
    cut = [s for _, s in rows_of(once, "scores", StudentScore) if s.outcome == "truncated"]
    assert {s.problem_id for s in cut} == {s.problem_id for s in again}
    summaries: list[Any] = [s for _, s in rows_of(once, "selections", Selection)]
    assert sum(row.num_truncated for s in summaries for row in s.summaries) == len(cut)


SAID_OTHERWISE: dict[str, Callable[[StudentScore], StudentScore]] = {
    "more text": lambda s: dataclasses.replace(s, text=s.text + " And more."),
    "fewer tokens": lambda s: dataclasses.replace(s, num_completion_tokens=1),
    "an end that its last call has not": lambda s: dataclasses.replace(s, finish_reason="length"),
    "only one of its calls": lambda s: dataclasses.replace(s, completions=s.completions[:1]),
    "none of its calls": lambda s: dataclasses.replace(s, completions=()),
    "its calls the other way round": lambda s: dataclasses.replace(
        s, completions=s.completions[::-1]
    ),
    "a call about another problem": lambda s: dataclasses.replace(
        s,
        completions=(
            dataclasses.replace(s.completions[0], problem_id="sums/train/new"),
            *s.completions[1:],
        ),
    ),
}


def test_a_score_that_differs_from_its_calls_is_found(by_task: MixedRun, tmp_path: Path) -> None:
    ledger = by_task.ledger
    for name, change in SAID_OTHERWISE.items():
        findings = findings_of_changed_score(
            ledger.run_dir, tmp_path / name, lambda s: len(s.completions) == 2, change
        )
        assert any("is not what its calls said" in finding for finding in findings), name
