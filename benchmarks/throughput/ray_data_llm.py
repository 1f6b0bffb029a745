"""The peer: `ray.data.llm`, from chat messages to rows in the driver.

Ray Data starts its actors again, including the engine, for every dataset that is executed, and
builds its engine for that one execution. So that it is as warm as the others, one execution serves
all passes: its dataset holds the rows of every set one after the other, and the preprocess function
that any user of a Processor writes lets a set's first row pass when the driver opens its gate. A
pass is timed from the opening of the gate to the last row of the set, with the engine up, the
stages' actors running and the instructions' blocks in the prefix cache.

It renders, tokenises, generates and detokenises; unlike our path it neither grades nor writes.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import ray

from benchmarks.throughput.workload import Pass, Prompt
from orca2_gen.config.engine import VLLMEngineConfig
from orca2_gen.engine import engine_arguments

BATCH_SIZE = 32
"""Rows of a batch, as is ray.data.llm's default, and of a block of the dataset, so that no batch
waits for rows of the next set."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ProcessorSettings:
    """The keywords of vLLMEngineProcessorConfig that a contender sets."""

    engine_kwargs: dict[str, Any]
    further: dict[str, Any] = field(default_factory=dict)


def equal_settings(config: VLLMEngineConfig) -> ProcessorSettings:
    """All of our engine values, and as many requests in flight as our path keeps open."""
    engine_kwargs = engine_arguments(config, None)
    # The processor gives these itself; model is its model_source.
    for name in ("enable_log_requests", "distributed_executor_backend", "model"):
        del engine_kwargs[name]
    in_flight = 2 * config.max_num_seqs
    return ProcessorSettings(
        engine_kwargs=engine_kwargs,
        further={
            "batch_size": BATCH_SIZE,
            "max_concurrent_batches": max(8, math.ceil(in_flight / BATCH_SIZE)),
            "max_pending_requests": in_flight,
            "log_engine_metrics": False,
        },
    )


def default_settings(config: VLLMEngineConfig) -> ProcessorSettings:
    """Its defaults, except three things without which the work differs or it does not start.

    These are the number format, the size of the cache (on a CPU a share of the machine's whole
    memory), and its metrics, which need `ray[serve]` installed and would only cost it time.
    """
    return ProcessorSettings(
        engine_kwargs={
            "dtype": config.dtype,
            "kv_cache_memory_bytes": config.kv_cache_memory_bytes,
            "gpu_memory_utilization": config.gpu_memory_utilization,
        },
        further={"log_engine_metrics": False},
    )


class Gates:
    """An actor that says when a set may pass."""

    def __init__(self) -> None:
        self._opened: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)

    async def open(self, name: str) -> None:
        self._opened[name].set()

    async def passed(self, name: str) -> None:
        await self._opened[name].wait()


class Preprocess:
    """A row of ours -> the Processor's input, once its set's gate is open."""

    def __init__(self, gates: Any) -> None:
        self._gates = gates
        self._opened: set[str] = set()

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        if row["set"] not in self._opened:
            ray.get(self._gates.passed.remote(row["set"]))
            self._opened.add(row["set"])
        return {
            "messages": [
                {"role": "system", "content": row["system"]},
                {"role": "user", "content": row["user"]},
            ],
            "sampling_params": {"temperature": 0.0, "max_tokens": row["max_tokens"]},
        }


def postprocess(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "set": row["set"],
        "text": row["generated_text"],
        "prompt_tokens": row["num_input_tokens"],
        "completion_tokens": row["num_generated_tokens"],
    }


class ProcessorHost:
    """An actor that is Ray Data's driver, so that its scheduling thread is not in ours."""

    def __init__(
        self, model: str, settings: ProcessorSettings, sets: dict[str, list[dict[str, Any]]]
    ) -> None:
        self._expected = {name: len(rows) for name, rows in sets.items()}
        self._rows = [row for rows in sets.values() for row in rows]
        self._gates = ray.remote(num_cpus=0, max_concurrency=100)(Gates).remote()
        self._model, self._settings = model, settings
        self._counts: dict[str, list[int]] = {name: [0, 0, 0] for name in sets}
        self._changed = threading.Condition()
        self._failure: Exception | None = None
        threading.Thread(target=self._execute, daemon=True).start()

    def answer(self, name: str) -> list[int]:
        """The set's rows, prompt tokens and completion tokens, once its gate is open and all came.

        Raises:
            RuntimeError: the dataset failed.
        """
        ray.get(self._gates.open.remote(name))
        with self._changed:
            self._changed.wait_for(
                lambda: self._failure or self._counts[name][0] == self._expected[name]
            )
        if self._failure is not None:
            raise RuntimeError(f"ray.data.llm failed: {self._failure}") from self._failure
        return self._counts[name]

    def _execute(self) -> None:
        try:
            for bundle in self._dataset().iter_internal_ref_bundles():
                for ref in bundle.block_refs:
                    self._count(ray.get(ref))
        except Exception as error:
            with self._changed:
                self._failure = error
                self._changed.notify_all()

    def _dataset(self) -> Any:
        from ray.data import DataContext, from_items
        from ray.data.llm import build_processor, vLLMEngineProcessorConfig

        DataContext.get_current().enable_progress_bars = False
        processor = build_processor(
            vLLMEngineProcessorConfig(
                model_source=self._model,
                engine_kwargs=dict(self._settings.engine_kwargs),
                # Otherwise it asks Ray for a GPU: there is none, or our path's actor holds it and
                # the engines share it.
                placement_group_config={"bundles": [{"CPU": 1}]},
                **self._settings.further,
            ),
            preprocess=Preprocess(self._gates),
            postprocess=postprocess,
            # Each task waits at the gate; two are as many as the cores at work.
            preprocess_map_kwargs={"concurrency": 2, "num_cpus": 0.5},
        )
        return processor(from_items(self._rows, override_num_blocks=len(self._rows) // BATCH_SIZE))

    def _count(self, block: Any) -> None:
        columns = block.select(["set", "prompt_tokens", "completion_tokens"]).to_pydict()
        with self._changed:
            for name, *tokens in zip(*columns.values(), strict=True):
                counts = self._counts[name]
                counts[0] += 1
                counts[1] += tokens[0]
                counts[2] += tokens[1]
            self._changed.notify_all()


class RayDataLLM:
    """One execution of a dataset that serves every set on request."""

    def __init__(
        self, model: str, settings: ProcessorSettings, sets: Mapping[str, Sequence[Prompt]]
    ) -> None:
        """Starts the execution; the first set starts the engine.

        Args:
            model: directory of the model.
            settings: settings of the processor.
            sets: sets in the order of the requests; each holds a multiple of BATCH_SIZE.
        """
        assert not any(len(prompts) % BATCH_SIZE for prompts in sets.values())
        rows = {name: [_row(name, p) for p in prompts] for name, prompts in sets.items()}
        self._host = ray.remote(num_cpus=0, max_concurrency=2)(ProcessorHost).remote(
            model, settings, rows
        )

    def answer(self, name: str) -> Pass:
        """One pass over the set of this name."""
        started = time.perf_counter()
        num_rows, prompt_tokens, completion_tokens = ray.get(self._host.answer.remote(name))
        return Pass(
            seconds=time.perf_counter() - started,
            requests=num_rows,
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
            cached_tokens=None,
        )

    def close(self) -> None:
        """Ends its driver, and with it the dataset's actors and their engine."""
        ray.kill(self._host)


def _row(name: str, prompt: Prompt) -> dict[str, Any]:
    return {
        "set": name,
        "system": prompt.system,
        "user": prompt.user,
        "max_tokens": prompt.max_tokens,
    }
