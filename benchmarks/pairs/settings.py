"""The sizes of a benchmark run, and the settings that turn `pair.toml` into its config."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CONFIG = Path(__file__).with_name("pair.toml")
_NUM_TRAINED, _NUM_HELD_OUT = 2, 4
"""Tasks in `pair.toml`."""
NEEDED = ("gsm8k_train.jsonl", "gsm8k_test.jsonl", "aqua_dev.jsonl", "agieval_aqua-rat.jsonl")


@dataclass(frozen=True, kw_only=True, slots=True)
class Sizes:
    """How much is asked of the two models; None is all there is."""

    scored: int
    """Problems of a task that are scored under every strategy."""
    rows: int | None
    """Problems of a task that the teacher is asked, the scored ones among them."""
    held_out: int | None
    """Held-out problems of a task."""
    max_tokens: int
    retry_max_tokens: int
    """Tokens of a second attempt; as many as max_tokens for none."""
    teacher_max_tokens: int
    attempts: int
    steps: int
    """Optimizer steps; 0 leaves out training and what comes after it."""
    seq_len: int
    rows_per_step: int


SMALL = Sizes(
    scored=24,
    rows=32,
    held_out=32,
    max_tokens=256,
    retry_max_tokens=256,
    teacher_max_tokens=384,
    attempts=2,
    steps=100,
    seq_len=512,
    rows_per_step=2,
)
"""About an hour for a student of half a billion parameters on two cores."""
FULL = Sizes(
    scored=500,
    rows=None,
    held_out=None,
    max_tokens=1024,
    retry_max_tokens=2048,
    teacher_max_tokens=2048,
    attempts=4,
    steps=400,
    seq_len=4096,
    rows_per_step=16,
)
"""The full sets, for a GPU."""


def check_directories(student: Path, teacher: Path, data: Path, agieval: tuple[str, str]) -> None:
    """Checks that everything is there before anything starts.

    Raises:
        ValueError: something is not; one line names the option.
    """
    for option, directory in (("--student", student), ("--teacher", teacher), ("--data", data)):
        if not directory.is_dir():
            raise ValueError(f"{option}: no directory at {directory}; give one that exists")
    for name in (*NEEDED, *map(agieval_file, agieval)):
        if not (data / name).is_file():
            raise ValueError(f"--data: no {name} in {data}; give the directory that holds it")
    if agieval[0] == agieval[1] or "aqua-rat" in agieval:
        raise ValueError(
            f"--agieval: {' '.join(agieval)}; give two different sets, neither of them aqua-rat, "
            "which is held out for AQuA"
        )


def agieval_file(name: str) -> str:
    """The name of an AGIEval set's file."""
    return f"agieval_{name}.jsonl"


def task_settings(data: Path, agieval: tuple[str, str]) -> list[str]:
    """The settings of the task files, of which AGIEval's are held out as a whole."""
    trained = {"gsm8k": data / "gsm8k_train.jsonl", "aqua": data / "aqua_dev.jsonl"}
    held_out = {"gsm8k": data / "gsm8k_test.jsonl", "aqua": data / agieval_file("aqua-rat")}
    held_out |= {name: data / agieval_file(name) for name in agieval}
    return [
        f"{place}.{number}.{key}={value}"
        for place, files in (("tasks", trained), ("evaluation.tasks", held_out))
        for number, (name, path) in enumerate(files.items())
        for key, value in (("name", name), ("path", path))
    ]


def scored_settings(data: Path, agieval: tuple[str, str], sizes: Sizes) -> list[str]:
    """The settings of a run that scores AGIEval's sets under every strategy, and makes no row."""
    files = {name: json.dumps(str(data / agieval_file(name))) for name in agieval}
    tasks = [
        f'{{name = "{name}", format = "agieval", path = {path}, split = "test", '
        f"rows_per_task = {sizes.scored}}}"
        for name, path in files.items()
    ]
    # Nothing is trained on, so a question that two sets share is no copy to keep out.
    alone = ["decontaminate.duplicates=false", "decontaminate.near=ignore"]
    return [f"tasks=[{', '.join(tasks)}]", "evaluation.tasks=[]", *alone]


def size_settings(sizes: Sizes) -> list[str]:
    """The settings of the sizes."""
    settings = [
        f"selection.scored_problems={sizes.scored}",
        f"scoring.max_tokens={sizes.max_tokens}",
        f"scoring.retry_max_tokens={sizes.retry_max_tokens}",
        f"rationales.max_tokens={sizes.teacher_max_tokens}",
        f"rationales.max_attempts={sizes.attempts}",
        f"evaluation.max_tokens={sizes.max_tokens}",
        f"training.num_steps={max(1, sizes.steps)}",
    ]
    for place, num_tasks, rows in (
        ("tasks", _NUM_TRAINED, sizes.rows),
        ("evaluation.tasks", _NUM_HELD_OUT, sizes.held_out),
    ):
        if rows is not None:
            settings += [f"{place}.{number}.rows_per_task={rows}" for number in range(num_tasks)]
    return settings


def row_settings(sizes: Sizes, longest: int) -> list[str]:
    """The settings of training's rows: longer ones, and fewer a step, where an example needs it.

    Args:
        sizes: the sizes asked for.
        longest: tokens of the longest example, which no row may cut.
    """
    seq_len = sizes.seq_len if longest <= sizes.seq_len else -(-longest // 64) * 64
    rows = max(1, sizes.rows_per_step * sizes.seq_len // seq_len)
    return [f"training.seq_len={seq_len}", f"training.rows_per_step={rows}"]


def engine_settings(*, on_gpu: bool, kv_cache_bytes: int, bind: str | None) -> Iterator[str]:
    """Yields the settings of both engines, which never run at the same time."""
    for role in ("student", "teacher"):
        if on_gpu:
            yield f"{role}.max_num_seqs=256"
            yield f"{role}.max_num_batched_tokens=8192"
            continue
        yield f"{role}.enforce_eager=true"
        yield f"{role}.block_size=32"
        yield f"{role}.kv_cache_memory_bytes={kv_cache_bytes}"
        # vLLM's own choice leaves a core to its scheduler: half of the machine, where it has two.
        yield f'{role}.env.VLLM_CPU_OMP_THREADS_BIND="{bind or _all_cores()}"'


def _all_cores() -> str:
    return ",".join(map(str, sorted(os.sched_getaffinity(0))))
