"""Real vLLM engines whose prompts fit exactly, and whose weights are no numbers (faults 28, 33 and
34).
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from orca2_gen.chat import encode_text, load_chat
from orca2_gen.config.arguments import rooms
from orca2_gen.config.load import load_config
from orca2_gen.exit_codes import TooManyRejections
from orca2_gen.lengths import length_budget
from orca2_gen.prompts import user_text
from orca2_gen.records import Problem, StudentScore
from orca2_gen.run_directory.ledger import committed_rows, read_ledger
from orca2_gen.strategies import OWN_FILE, load_strategies
from orca2_gen.tasks.read import read_task
from orca2_gen.tasks.source import TaskSource
from ray_jobs.demo import CONFIG
from ray_jobs.pipeline import run_all
from ray_jobs.run import open_run
from tests.conftest import quiet
from tests.faults.oracle import assert_sound, rejections, unused_segments
from tests.ray_jobs.test_real_engines import small

pytestmark = [pytest.mark.engine, pytest.mark.slow]

ROWS = 12
MAX_TOKENS = 32


def without_numbers(folder: Path) -> Path:
    """A copy of the microworld's teacher whose last norm is NaN, and with it every logit."""
    model = Path(shutil.copytree(OWN_FILE.with_name("microworld") / "teacher", folder / "nan"))
    file = model / "model.safetensors"
    weights = load_file(file)
    weights["model.norm.weight"] = torch.full_like(weights["model.norm.weight"], float("nan"))
    save_file(weights, file, metadata={"format": "pt"})
    return model


@dataclass(frozen=True)
class Seen:
    run_dir: Path
    longest: str
    """Id of the problem whose prompt fits exactly."""
    printed: str
    stopped: TooManyRejections
    unused_before: set[Path]


def longest_prompt(sets: list[str]) -> tuple[str, int]:
    """(id, tokens of the longest prompt) of the problem of this run that needs most."""
    config = load_config(CONFIG, sets)
    strategies = load_strategies(config.strategies)
    room = next(room for room in rooms(config, strategies) if room.role == "student")
    budget = length_budget(room, load_chat(room.tokenizer), strategies)
    found = []
    for task in config.tasks:
        source = TaskSource(name=task.name, format="jsonl", path=Path(task.path), split="train")
        for row in read_task(source).rows:
            assert isinstance(row, Problem)
            tokens = encode_text(budget.chat, user_text(row, strategies))
            found.append((budget.frame_tokens + len(tokens), row.problem_id))
    tokens_needed, problem_id = max(found)
    return problem_id, tokens_needed


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory, local_ray: None) -> Seen:
    """A run whose student has room for its longest prompt and no token more, and whose teacher is
    broken.
    """
    folder = tmp_path_factory.mktemp("exact")
    run_dir = folder / "run"
    sets = small(
        run_dir,
        ROWS,
        f"scoring.max_tokens={MAX_TOKENS}",
        f"scoring.retry_max_tokens={MAX_TOKENS}",
        "scoring.ask_again=none",  # a forced ending would need room after the answer
        f"rationales.max_tokens={MAX_TOKENS}",
        f"evaluation.max_tokens={MAX_TOKENS}",
        "rationales.max_attempts=2",
        "selection.block_size=12",
        "selection.cautious_arm=true",  # its message is the longest
        f"teacher.model={without_numbers(folder)}",
        f"dispatch.rejection_rows={ROWS}",
        "rows_per_unit=6",
    )
    problem_id, tokens = longest_prompt(sets)
    config = load_config(CONFIG, [*sets, f"student.max_model_len={tokens + MAX_TOKENS}"])
    lines: list[str] = []
    unused_before = unused_segments()
    with pytest.raises(TooManyRejections) as stopped, open_run(config, quiet, lines.append) as run:
        run_all(run)
    return Seen(
        run_dir=run_dir,
        longest=problem_id,
        printed="\n".join(lines),
        stopped=stopped.value,
        unused_before=unused_before,
    )


def test_28_a_prompt_and_answer_that_fill_the_context_exactly_are_served(seen: Seen) -> None:
    ledger = read_ledger(seen.run_dir)
    assert not [row for row in rejections(seen.run_dir) if row["reason"] == "prompt_too_long"]
    scores = committed_rows(ledger, "scores", StudentScore)
    of_longest = [score for score in scores if score.problem_id == seen.longest]
    assert len(of_longest) > 0
    config = json.loads((seen.run_dir / "config.json").read_text())["config"]
    assert (
        max(s.num_prompt_tokens for s in of_longest) + MAX_TOKENS
        == config["student"]["max_model_len"]
    )
    assert len({score.problem_id for score in scores}) == 2 * ROWS


def test_33_and_34_weights_that_are_no_numbers_give_no_rationale_and_stop_the_run(
    seen: Seen,
) -> None:
    reasons = Counter(
        row["reason"] for row in rejections(seen.run_dir) if row["stage"] == "rationales"
    )
    assert sum(reasons.values()) >= ROWS
    assert set(reasons) <= {"truncated", "empty"}, reasons
    ledger = read_ledger(seen.run_dir)
    assert sum(r.counts["accepted"] for r in ledger.committed("rationales")) == 0
    assert "rationales: " in str(seen.stopped) and "were rejected" in str(seen.stopped)
    assert_sound(
        seen.run_dir,
        printed=seen.printed + str(seen.stopped),
        unused_before=seen.unused_before,
        is_finished=False,
    )
