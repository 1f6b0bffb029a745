"""The accuracy of a microworld model by family and system message, through vLLM, greedy.

    python -m orca2_gen.microworld.accuracy student MODEL_DIR LOG.json --split test --items 200

LOG.json receives the figures and the model's `training.json`; a table of all its models is written
beside it as LOG.md.

It has an engine loop of its own because the log needs every message on one split of one model that
no run's config names, while `orca2 score` asks a run's train tasks under strategies only, and
`orca2 evaluate` asks held-out tasks under `cautious` and `empty` only.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from orca2_gen.chat import encode_prompt, load_chat
from orca2_gen.grading.grade import grade
from orca2_gen.microworld.corpus import problem_of
from orca2_gen.microworld.families import FAMILIES
from orca2_gen.microworld.instructions import microworld_strategies
from orca2_gen.microworld.item import Split
from orca2_gen.microworld.task_files import draw_task_items
from orca2_gen.microworld.tokenizer import MAX_POSITIONS
from orca2_gen.microworld.world import build_world
from orca2_gen.prompts import prompt_messages, user_text
from orca2_gen.strategies import CAUTIOUS, EMPTY, Strategies

MAX_TOKENS = 128
_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "OMP_WAIT_POLICY": "passive",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_LOGGING_LEVEL": "WARNING",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """One family under one system message."""

    accuracy: float
    """Percent of the items."""
    mean_completion_tokens: float
    sample: str
    """The first completion."""


def measure(model_dir: str, split: Split, num_items: int) -> dict[str, dict[str, Cell]]:
    """Family -> system message (a strategy's name, `cautious` or `empty`) -> Cell."""
    strategies = microworld_strategies()
    names = (*strategies.names, CAUTIOUS, EMPTY)
    chat = load_chat(model_dir)
    items = draw_task_items(build_world())
    problems = {
        family: [problem_of(item) for item in items[family, split][:num_items]]
        for family in FAMILIES
    }
    prompts = [
        encode_prompt(
            chat, prompt_messages(strategies.system_message(name), user_text(problem, strategies))
        )
        for family in FAMILIES
        for name in names
        for problem in problems[family]
    ]
    completions = iter(_generate(model_dir, prompts))
    cells: dict[str, dict[str, Cell]] = {}
    for family in FAMILIES:
        cells[family] = {}
        for name in names:
            outputs = [next(completions) for _ in problems[family]]
            verdicts = [
                grade(problem, output.text, output.finish_reason)
                for problem, output in zip(problems[family], outputs, strict=True)
            ]
            cells[family][name] = Cell(
                accuracy=round(100 * sum(v.score for v in verdicts) / len(verdicts), 1),
                mean_completion_tokens=round(
                    sum(len(o.token_ids) for o in outputs) / len(outputs), 1
                ),
                sample=outputs[0].text,
            )
    return cells


def _generate(model_dir: str, prompts: list[tuple[int, ...]]) -> list[Any]:
    os.environ.update(_ENVIRONMENT)
    from vllm import LLM, SamplingParams
    from vllm.inputs import TokensPrompt

    engine = LLM(
        model=model_dir,
        dtype="bfloat16",
        enforce_eager=True,
        block_size=32,
        kv_cache_memory_bytes=256 << 20,
        max_model_len=MAX_POSITIONS,
        max_num_seqs=128,
        trust_remote_code=False,
        seed=0,
    )
    sampling = SamplingParams(temperature=0.0, max_tokens=MAX_TOKENS)
    inputs = [TokensPrompt(prompt_token_ids=list(ids)) for ids in prompts]
    return [output.outputs[0] for output in engine.generate(inputs, sampling, use_tqdm=False)]


def render_table(log: dict[str, Any], strategies: Strategies) -> str:
    """The figures of every model in the log, as Markdown."""
    names = (*strategies.names, CAUTIOUS, EMPTY)
    lines = [
        "# The microworld's models",
        "",
        "Accuracy in percent and, in brackets, mean completion tokens: vLLM, greedy, bfloat16.",
        "Written by `python -m orca2_gen.microworld.accuracy`; the JSON beside it has samples and",
        "the loss curve.",
    ]
    for learner, entry in log.items():
        training = entry["training"]
        steps = sum(stage["num_steps"] for stage in training["stages"])
        minutes = sum(stage["seconds"] for stage in training["stages"]) / 60
        lines += [
            "",
            f"## {learner}: {training['num_parameters']:,} parameters",
            "",
            f"{steps} steps in {minutes:.0f} minutes on two cores; "
            f"{entry['num_items']} {entry['split']} items a cell.",
            "",
            f"| family | {' | '.join(names)} |",
            f"|---|{'---|' * len(names)}",
        ]
        for family, row in entry["cells"].items():
            cells = [
                f"{row[n]['accuracy']:.0f} ({row[n]['mean_completion_tokens']:.0f})" for n in names
            ]
            lines.append(f"| {family} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measures one model and adds it to the log."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("learner", choices=("student", "teacher"))
    parser.add_argument("model_dir", type=Path)
    parser.add_argument("log", type=Path)
    parser.add_argument("--split", choices=("train", "test"), default="test")
    parser.add_argument("--items", type=int, default=200)
    arguments = parser.parse_args()
    started = time.perf_counter()
    cells = measure(str(arguments.model_dir), arguments.split, arguments.items)
    log = json.loads(arguments.log.read_text()) if arguments.log.exists() else {}
    log[arguments.learner] = {
        "training": json.loads((arguments.model_dir / "training.json").read_text()),
        "split": arguments.split,
        "num_items": arguments.items,
        "measured_seconds": round(time.perf_counter() - started, 1),
        "cells": {
            family: {name: asdict(cell) for name, cell in row.items()}
            for family, row in cells.items()
        },
    }
    arguments.log.write_text(json.dumps(log, indent=1) + "\n")
    arguments.log.with_suffix(".md").write_text(render_table(log, microworld_strategies()))
    print(render_table({arguments.learner: log[arguments.learner]}, microworld_strategies()))


if __name__ == "__main__":
    main()
