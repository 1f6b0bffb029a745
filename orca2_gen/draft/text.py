"""Models, tasks and GPUs -> the text of a config, with a comment at what to think about."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from orca2_gen.doctor.gpus import Gpu
from orca2_gen.draft.models import FoundModel
from orca2_gen.draft.tasks import FoundTask

MOST_CONTEXT = 4096
"""Tokens of a context unless the model has fewer: what Orca 2 was trained with."""
_UTILIZATION = 0.92
_WEIGHTS_SHARE = 0.6
"""Largest share of an engine's memory for weights: the rest is for the requests' contexts."""


def config_text(
    run_dir: str,
    student: FoundModel,
    teacher: FoundModel,
    tasks: Sequence[FoundTask],
    gpus: Sequence[Gpu],
    relative_to: Path,
) -> str:
    """The text of a config.

    Args:
        run_dir: where the run will be.
        student: its model.
        teacher: its model.
        tasks: tasks that a format reads, those of evaluation included.
        gpus: of this machine.
        relative_to: directory of the config, from which its paths count.
    """
    on = f"{len(gpus)} GPUs ({gpus[0].name})" if gpus else "CPUs"
    context = min(MOST_CONTEXT, *(m.num_positions or MOST_CONTEXT for m in (student, teacher)))
    # A second attempt has twice the tokens; what is left has to hold the prompt.
    answer = max(16, context // (4 if context >= MOST_CONTEXT // 2 else 8))
    held_out = [task for task in tasks if task.is_held_out]
    trained_on = [task for task in tasks if not task.is_held_out]
    assert trained_on, "the command refuses tasks that are all held out"
    parts = [
        f"# Made by `orca2 init` on a machine with {on}. `orca2 plan` says whether it works, and",
        "# docs/config.md what else there is. Paths count from this file, but run_dir from where a",
        "# command is given.",
        "",
        f"run_dir = {_quoted(run_dir)}",
        *(line for task in trained_on for line in _task("[[tasks]]", task, relative_to)),
        *_engine("student", student, context, gpus, relative_to),
        *_engine("teacher", teacher, context, gpus, relative_to),
        "",
        "[scoring]",
        f"max_tokens = {answer}     # of an answer; one that is longer counts as wrong",
        "",
        "[selection]",
        "scored_problems = 500            # of each task at most: they decide its strategy",
        "",
        "[rationales]",
        f"max_tokens = {answer}",
        "max_attempts = 4     # answers to a problem, until one is right",
        "temperature = 0.7",
        "",
        "[training]",
        f"seq_len = {context}",
    ]
    if held_out:
        parts += ["", "[evaluation]", f"max_tokens = {answer}"]
        for task in held_out:
            parts += [*_task("[[evaluation.tasks]]", task, relative_to), 'split = "test"']
    return "\n".join(parts) + "\n"


def _task(heading: str, task: FoundTask, relative_to: Path) -> list[str]:
    of = f"{task.num_problems} of its first {task.num_rows} rows are problems"
    return [
        "",
        f"# {of}" + (f"; {_plain(task.reason)}" if task.reason else ""),
        heading,
        f"name = {_quoted(task.name)}",
        f"format = {_quoted(task.format)}",
        f"path = {_quoted(_path(task.path, relative_to))}",
        *_columns(task.columns),
    ]


def _columns(columns: Mapping[str, str]) -> list[str]:
    if not columns:
        return []
    pairs = ", ".join(f"{name} = {_quoted(column)}" for name, column in columns.items())
    return [f"columns = {{ {pairs} }}   # a guess by their names; correct it"]


def _engine(
    role: str, model: FoundModel, context: int, gpus: Sequence[Gpu], relative_to: Path
) -> list[str]:
    lines = ["", f"[{role}]", f"model = {_quoted(_path(model.directory, relative_to))}"]
    if not model.has_template:
        lines.insert(
            1, "# It has no chat template: `orca2 prepare` makes a student of a base model."
        )
    lines.append(f"max_model_len = {context}")
    if not gpus:
        return [
            *lines,
            'dtype = "float32"                # CPUs without bfloat16 instructions emulate them',
            "kv_cache_memory_bytes = 1073741824",
            "max_num_batched_tokens = 4096",
        ]
    ranks, replicas = engine_shape(model.num_bytes, gpus, model.num_heads)
    lines.append(f"tensor_parallel_size = {ranks}")
    lines.append(f"replicas = {replicas}")
    lines.append(f"gpu_memory_utilization = {_UTILIZATION}")
    return lines


def engine_shape(
    num_bytes: int, gpus: Sequence[Gpu], num_heads: Sequence[int] = ()
) -> tuple[int, int]:
    """The GPUs of an engine with weights of so many bytes, a power of 2, and the engines that fit.

    Ranks divide each number of heads. With too few GPUs an engine takes all that it can; `orca2
    plan` and the engine say the rest. Where a GPU does not tell its memory, an engine gets one.
    """
    least = min(gpu.total_mb for gpu in gpus)
    usable = _UTILIZATION * _WEIGHTS_SHARE * least * (1 << 20)
    ranks = 1
    while (
        least
        and 2 * ranks <= len(gpus)
        and num_bytes > ranks * usable
        and not any(heads % (2 * ranks) for heads in num_heads)
    ):
        ranks *= 2
    return ranks, len(gpus) // ranks


def _path(path: Path, relative_to: Path) -> str:
    """The path as a config names it: relative where it lies beside or below, else absolute."""
    # Links stay: what one leads to may have another name, and readers go by suffixes.
    whole = Path(os.path.abspath(path))
    base = Path(os.path.abspath(relative_to))
    return str(whole.relative_to(base)) if whole.is_relative_to(base) else str(whole)


def _quoted(text: str) -> str:
    """A text as a TOML string, of which JSON's with all its letters is one."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _plain(text: str) -> str:
    """Text of a file that is safe in a comment."""
    return "".join(c if c.isprintable() else " " for c in text)
