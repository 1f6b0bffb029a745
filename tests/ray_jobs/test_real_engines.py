"""The path on real vLLM engines with the models of the microworld, as a GPU cluster runs it."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets
import pytest

from benchmarks.throughput.models import make_random_llama
from orca2_gen.chat import load_chat
from orca2_gen.config.load import engine_directory, load_config
from orca2_gen.config.schema import Config
from orca2_gen.console.progress import show_stage
from orca2_gen.evaluations.accuracies import MACRO, evaluations
from orca2_gen.foresight.amounts import Amount
from orca2_gen.provenance.verify import verify
from orca2_gen.records import Rationale, StudentScore
from orca2_gen.run_directory.arrow_files import read_records
from orca2_gen.run_directory.ledger import committed_rows, read_ledger
from orca2_gen.run_directory.units import Receipt
from ray_jobs import model_engines
from ray_jobs.demo import CONFIG
from ray_jobs.engines import placement
from ray_jobs.engines.placement import Placement
from ray_jobs.evaluation import evaluate_model, score_model
from ray_jobs.pipeline import read_tasks, run_all, score_student, select_strategies
from ray_jobs.regrading.regrade import regrade
from ray_jobs.run import open_run
from tests.conftest import source_of
from tests.faults.oracle import engine_processes
from train.launch import train_student, trained_student

pytestmark = pytest.mark.engine

TASKS = Path(__file__).parents[2] / "orca2_gen" / "microworld" / "tasks"
SCORED = 12
SHORT = (
    "scoring.max_tokens=12",
    "scoring.retry_max_tokens=12",
    "evaluation.max_tokens=4",  # under the cautious message the student answers directly
)


def small(run_dir: Path, rows: int, *overrides: str) -> list[str]:
    """Overrides that cut the microworld to two tasks of `rows` rows each, and as many held out."""
    listed: dict[str, list[str]] = {"train": [], "held-out": []}
    for name in ("add", "river"):
        lines = (TASKS / f"{name}.train.jsonl").read_text().splitlines(keepends=True)
        for place, (split, tasks) in enumerate(listed.items()):
            path = run_dir.parent / f"{name}.{split}.jsonl"
            path.write_text("".join(lines[place * rows :][:rows]))
            tasks.append(f'{{name = "{name}", format = "jsonl", path = "{path}"}}')
    return [
        f"run_dir={run_dir}",
        f"tasks=[{', '.join(listed['train'])}]",
        f"evaluation.tasks=[{', '.join(listed['held-out'])}]",
        f"selection.scored_problems={SCORED}",
        *overrides,
    ]


def vllm_processes() -> list[str]:
    """The vLLM processes of this session that run now."""
    return [line for line in engine_processes() if "VLLM" in line]


def run(config: Config) -> Path:
    with open_run(config, show_stage) as opened:
        run_all(opened)
    return Path(config.run_dir)


@dataclass(frozen=True)
class Watched:
    """A finished run, and the vLLM processes at some of its moments."""

    run_dir: Path
    overrides: list[str]
    at_entry: dict[str, list[str]] = field(default_factory=dict)
    """Stage -> processes when it begins."""
    at_start: dict[int, list[str]] = field(default_factory=dict)
    """Ranks -> processes when the first engine with that many ranks starts."""
    at_receipt: dict[str, list[str]] = field(default_factory=dict)
    """Stage -> processes at its first receipt."""

    @contextmanager
    def track(self, stage: str, amount: Amount) -> Iterator[Callable[[Receipt], None]]:
        self.at_entry[stage] = vllm_processes()
        yield lambda receipt: self._note(self.at_receipt, receipt.stage)

    def start_engine(self, config: Any, placed: Placement, **arguments: Any) -> Any:
        self._note(self.at_start, placed.ranks)
        return placement.start_engine(config, placed, **arguments)

    @staticmethod
    def _note(found: dict[Any, list[str]], key: Any) -> None:
        if key not in found:
            found[key] = vllm_processes()


@pytest.fixture(scope="module")
def tensor_parallel_run(tmp_path_factory: pytest.TempPathFactory) -> Watched:
    run_dir = tmp_path_factory.mktemp("tp") / "run"
    watched = Watched(run_dir, small(run_dir, 24, "teacher.tensor_parallel_size=2"))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(model_engines, "start_engine", watched.start_engine)
        with open_run(load_config(CONFIG, watched.overrides), watched.track) as opened:
            run_all(opened)
    return watched


def test_a_student_and_a_tensor_parallel_teacher_make_a_verified_dataset(
    tensor_parallel_run: Watched,
) -> None:
    run_dir = tensor_parallel_run.run_dir
    found = verify(run_dir)
    assert found.findings == []
    table = {stage: row for stage, *row in found.table}
    assert table["problems"] == [48, 48, 0, 0]
    assert table["scores"] == [48 * 6, 2 * SCORED * 6, 0, 2 * (24 - SCORED) * 6]
    rows = datasets.load_from_disk(str(run_dir / "dataset"))
    assert len(rows) > 0
    assert {message["role"] for message in rows[0]["messages"]} == {"system", "user", "assistant"}


def test_scores_of_a_real_engine_keep_text_and_token_counts(
    tensor_parallel_run: Watched,
) -> None:
    ledger = read_ledger(tensor_parallel_run.run_dir)
    scores = [
        score
        for receipt in ledger.committed("scores")
        for score in read_records(ledger.run_dir, receipt.accepted, StudentScore)
    ]
    assert all(score.text and score.num_completion_tokens > 0 for score in scores)
    assert {score.finish_reason for score in scores} <= {"stop", "length"}
    # vLLM shares whole blocks of the prefix, never the last token, which must be computed.
    for score in scores:
        assert score.num_cached_tokens % 32 == 0
        assert 0 <= score.num_cached_tokens < score.num_prompt_tokens


def test_the_students_engines_are_gone_before_the_teacher_is_loaded(
    tensor_parallel_run: Watched,
) -> None:
    student, teacher = 1, 2  # ranks
    while_scored = tensor_parallel_run.at_receipt["scores"]
    assert any("EngineCore" in line for line in while_scored)
    assert tensor_parallel_run.at_entry["rationales"] == []
    assert tensor_parallel_run.at_start == {student: [], teacher: []}
    while_taught = tensor_parallel_run.at_receipt["rationales"]
    assert sum("Worker" in line for line in while_taught) == teacher
    assert not set(while_taught) & set(while_scored)


def test_no_engine_process_outlives_its_stage(tensor_parallel_run: Watched) -> None:
    assert tensor_parallel_run.at_entry["examples"] == []
    assert vllm_processes() == []


def test_a_trained_student_is_loaded_by_vllm_and_evaluated(
    tensor_parallel_run: Watched,
) -> None:
    overrides = [*tensor_parallel_run.overrides, "training.num_steps=2"]
    train_student(CONFIG, overrides)
    config = load_config(CONFIG, overrides)
    with open_run(config, show_stage) as opened:
        evaluate_model(opened, "trained", trained_student(config))
        accuracies, _ = evaluations(opened.ledger)
    assert {each.task for each in accuracies} == {"add", "river", f"{MACRO} (2)"}
    assert all(0.0 <= each.mean <= 1.0 for each in accuracies)


@pytest.mark.slow
def test_a_student_that_is_cut_short_is_asked_again_and_its_endings_verify(tmp_path: Path) -> None:
    overrides = small(tmp_path / "run", 12, *SHORT, "scoring.answer_max_tokens=8")
    with open_run(load_config(CONFIG, overrides), show_stage) as opened:
        read_tasks(opened)
        score_student(opened)
        select_strategies(opened)
        score_model(opened, "student")
    assert verify(tmp_path / "run").findings == []
    ledger = read_ledger(tmp_path / "run")
    end_ids = load_chat(engine_directory(opened.config.student)).end_ids
    for stage in ("scores", "evaluation"):
        scores = committed_rows(ledger, stage, StudentScore)
        undecided = [s for s in scores if s.ending or s.outcome in ("truncated", "unparsed")]
        assert undecided and all(len(s.ending) == 1 for s in undecided)
        assert any(s.is_forced for s in undecided)
        for score in undecided:
            [ending] = score.ending
            assert 1 <= ending.num_completion_tokens <= 8
            assert ending.token_ids[0] not in end_ids  # it says something
            assert ending.num_prompt_tokens > score.num_prompt_tokens + len(score.token_ids) - 1
        print(stage, len(scores), "cells", sum(s.is_forced for s in scores), "forced")


@pytest.mark.slow
def test_a_student_may_be_its_own_teacher(tmp_path: Path) -> None:
    student = json.dumps(str(CONFIG.parents[2] / "orca2_gen" / "microworld" / "student"))
    config = load_config(CONFIG, small(tmp_path / "run", 12, f"teacher.model={student}"))
    run_dir = run(config)
    assert verify(run_dir).findings == []
    ledger = read_ledger(run_dir)
    rationales = [
        rationale
        for receipt in ledger.committed("rationales")
        for rationale in read_records(run_dir, receipt.accepted, Rationale)
    ]
    rejected = sum(receipt.counts["rejected"] for receipt in ledger.committed("rationales"))
    assert len(rationales) + rejected == 24


@pytest.mark.slow
def test_a_real_judge_is_asked_about_every_answer_and_its_noise_is_no_verdict(
    tmp_path: Path,
) -> None:
    judge = make_random_llama(
        tmp_path / "judge",
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=4096,  # room for the prompt of a judge
    )
    overrides = small(tmp_path / "run", 12)
    task = f'{{name = "river", format = "jsonl", path = "{tmp_path / "river.train.jsonl"}"'
    values = 'dtype = "float32", max_model_len = 4096, max_num_batched_tokens = 4096'
    values += ", block_size = 32, kv_cache_memory_bytes = 268435456, enforce_eager = true"
    overrides += [
        f'tasks=[{task}, answer_type = "open"}}]',
        "evaluation.tasks=[]",
        f'judge={{engine = "vllm", model = "{judge}", {values}}}',
        "judging.max_tokens=16",
    ]
    run_dir = run(load_config(CONFIG, overrides))
    assert verify(run_dir).findings == []
    ledger = read_ledger(run_dir)
    judged = [
        score
        for receipt in ledger.committed("judgements")
        for score in read_records(run_dir, receipt.accepted, StudentScore)
    ]
    assert len(judged) == SCORED * 6
    asked = [score for score in judged if score.outcome == "ungraded"]
    assert len(asked) > SCORED and {s.outcome for s in judged} <= {"ungraded", "truncated"}
    shared = []
    for score in asked:
        [reply] = score.judgement
        assert score.score == 0.0
        assert reply.text and reply.role == "judge" and reply.num_prompt_tokens > 512
        shared.append(reply.num_cached_tokens)
    assert statistics.median(shared) >= 512, "what a judge is told is the same for every answer"
    again = load_config(CONFIG, [*overrides, f"run_dir={tmp_path / 'again'}"])
    with open_run(again, show_stage) as opened:
        lines = regrade(opened, source_of(run_dir, again)).lines
    assert "no winner differs" in lines
    assert f"judgements: {len(ledger.committed('judgements'))} of" in " ".join(lines)
