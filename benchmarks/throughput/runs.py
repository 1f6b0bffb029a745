"""The runs that hold the benchmark's problems, and the settings that stand beside its figures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.throughput.models import Size
from orca2_gen.config.engine import VLLMEngineConfig
from orca2_gen.config.schema import Config, RationalesConfig, SelectionConfig
from orca2_gen.config.scoring import ScoringConfig
from orca2_gen.config.task import TaskConfig
from orca2_gen.foresight.amounts import Amount
from orca2_gen.run_directory.units import Receipt
from orca2_gen.strategies import load_strategies


def run_config(
    engine: VLLMEngineConfig, size: Size, folder: Path, sets: Mapping[str, str]
) -> Config:
    """A run whose tasks are these sets, name -> JSONL; each is one committed unit of problems."""
    folder.mkdir(exist_ok=True)
    tasks = []
    for name, text in sets.items():
        (folder / f"{name}.jsonl").write_text(text)
        tasks.append(TaskConfig(name=name, format="jsonl", path=str(folder / f"{name}.jsonl")))
    return Config(
        run_dir=str(folder / "run"),
        rows_per_unit=size.problems,
        tasks=tuple(tasks),
        student=engine,
        teacher=engine,
        # Every request is asked once, as by the other contenders.
        scoring=ScoringConfig(max_tokens=size.max_tokens, retry_max_tokens=size.max_tokens),
        rationales=RationalesConfig(max_tokens=size.max_tokens),
        selection=SelectionConfig(
            method="full_grid",
            scored_problems=size.problems,
            block_size=size.problems_per_unit,
        ),
    )


def settings_of(engine: VLLMEngineConfig, size: Size) -> dict[str, Any]:
    """The settings of an engine and its work that appear beside the figures."""
    names = {"dtype", "block_size", "max_num_seqs", "max_num_batched_tokens", "enforce_eager"}
    warm_up = size.warm_up_problems * len(load_strategies(None).names)
    return engine.model_dump(include=names | {"kv_cache_memory_bytes"}) | {
        "max_tokens": size.max_tokens,
        "mean_length": size.mean_length,
        "problems_per_unit": size.problems_per_unit,
        "warm_up_requests_discarded": warm_up,
    }


@contextmanager
def untracked(stage: str, amount: Amount) -> Iterator[Callable[[Receipt], None]]:
    """A `Track` that shows nothing."""
    yield lambda receipt: None
