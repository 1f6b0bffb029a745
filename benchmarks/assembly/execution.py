"""One execution of ray.data.llm: prompts in, graded replies out, its engine timed from outside.

Ray Data starts its actors for an execution, the engine among them, when the first rows come. So its
first batch is a warm-up of one token a row, and all other rows wait at a gate in the preprocess
function until that batch is through. The clock runs from the opening of the gate to the last row in
Ray Data's driver.

The postprocess function grades, as any user's would. ray.data.llm returns no finish_reason, so a
completion that took all of its tokens counts as cut short.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psutil  # type: ignore[import-untyped]
import ray

from benchmarks.assembly.ground import Asked
from benchmarks.assembly.made import Held
from benchmarks.assembly.ours import END_SECONDS
from benchmarks.throughput.machine import engine_processes
from benchmarks.throughput.ray_data_llm import BATCH_SIZE, Gates, equal_settings
from orca2_gen.config.engine import VLLMEngineConfig
from orca2_gen.grading.grade import grade
from orca2_gen.grading.verdicts import Grade
from orca2_gen.records import Problem
from ray_jobs.cluster import is_cpu_build

GATE = "asked"
WARM_UP = -1
"""Place of a row of the warm-up."""
_WARM_UP_ROW = {
    "place": WARM_UP,
    "system": "Answer.",
    "user": "1 + 1 =",
    "max_tokens": 1,
    "temperature": 0.0,
    "top_p": 1.0,
    "seed": 0,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """A graded completion of what was asked."""

    asked: Asked
    text: str
    num_prompt_tokens: int
    num_completion_tokens: int
    grade: Grade

    @property
    def finish_reason(self) -> str:
        return finish_reason(self.num_completion_tokens, self.asked.max_tokens)


def finish_reason(num_completion_tokens: int, max_tokens: int) -> str:
    """What the reason must have been, by the number of tokens alone."""
    return "stop" if num_completion_tokens < max_tokens else "length"


def answer(
    engine: VLLMEngineConfig, asked: Sequence[Asked], *, is_seeded: bool
) -> tuple[list[Reply], Held]:
    """The replies to these prompts, in their order, by one engine that is gone afterwards.

    Args:
        engine: engine values; all of them are ray.data.llm's too, and as many requests in flight.
        asked: prompts of its model, in the order of the dataset.
        is_seeded: whether each sampled prompt has the seed that our own run gives it; else vLLM's
            engine has one for all, as usual, and draws faster.
    """
    begun = time.perf_counter()
    rows = [_row(place, each, is_seeded=is_seeded) for place, each in enumerate(asked)]
    host = ray.remote(num_cpus=0, max_concurrency=2)(ExecutionHost).remote(
        engine, rows, [each.problem for each in asked], is_seeded
    )
    try:
        ray.get(host.warm_up.remote())
        ready = time.perf_counter()
        seconds, found = ray.get(host.answer.remote())
        processes = engine_processes()
    finally:
        ray.kill(host)  # and with it Ray Data's actors and their placement groups
    psutil.wait_procs(processes, timeout=END_SECONDS)
    replies = [_reply(asked[row["place"]], row) for row in sorted(found, key=_place)]
    assert len(replies) == len(asked)
    held = Held(
        seconds=seconds,
        start_seconds=ready - begun,
        num_requests=len(replies),
        prompt_tokens=sum(reply.num_prompt_tokens for reply in replies),
        completion_tokens=sum(reply.num_completion_tokens for reply in replies),
    )
    return replies, held


class Preprocess:
    """A row -> the processor's input, once the gate is open or if the row is of the warm-up."""

    def __init__(self, gates: Any, is_seeded: bool) -> None:
        self._gates, self._is_seeded = gates, is_seeded
        self._is_open = False

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        if row["place"] != WARM_UP and not self._is_open:
            ray.get(self._gates.passed.remote(GATE))
            self._is_open = True
        names = ("max_tokens", "temperature", "top_p", *(("seed",) if self._is_seeded else ()))
        return {
            "messages": [
                {"role": "system", "content": row["system"]},
                {"role": "user", "content": row["user"]},
            ],
            "sampling_params": {name: row[name] for name in names},
        }


class Postprocess:
    """A row of the processor -> its text and tokens, and the project's own verdict."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self._problems = problems

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        place, tokens = int(row["place"]), int(row["num_generated_tokens"])
        told: dict[str, Any] = {"outcome": "", "score": 0.0, "answer": ""}
        if place != WARM_UP:
            reason = finish_reason(tokens, int(row["max_tokens"]))
            verdict = grade(self._problems[place], row["generated_text"], reason)
            told = {
                "outcome": verdict.outcome,
                "score": float(verdict.score),
                "answer": verdict.answer,
            }
        return {
            "place": place,
            "text": row["generated_text"],
            "prompt_tokens": int(row["num_input_tokens"]),
            "completion_tokens": tokens,
            **told,
        }


class ExecutionHost:
    """An actor that is Ray Data's driver, so that its threads and its actors end with it."""

    def __init__(
        self,
        engine: VLLMEngineConfig,
        rows: list[dict[str, Any]],
        problems: list[Problem],
        is_seeded: bool,
    ) -> None:
        """Starts the execution, and with it the engine."""
        self._gates = ray.remote(num_cpus=0, max_concurrency=100)(Gates).remote()
        self._preprocess = Preprocess(self._gates, is_seeded)
        self._engine, self._rows, self._problems = engine, rows, problems
        self._found: list[dict[str, Any]] = []
        self._changed = threading.Condition()
        self._failure: Exception | None = None
        threading.Thread(target=self._execute, daemon=True).start()

    def warm_up(self) -> None:
        """Returns when the first batch is through."""
        self._await(BATCH_SIZE)

    def answer(self) -> tuple[float, list[dict[str, Any]]]:
        """The seconds from the opening of the gate to the last row, and all rows asked for.

        Raises:
            RuntimeError: the execution failed.
        """
        started = time.perf_counter()
        ray.get(self._gates.open.remote(GATE))
        self._await(BATCH_SIZE + len(self._rows))
        seconds = time.perf_counter() - started
        return seconds, [row for row in self._found if row["place"] != WARM_UP]

    def _await(self, num_rows: int) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._failure or len(self._found) >= num_rows)
        if self._failure is not None:
            raise RuntimeError(f"ray.data.llm failed: {self._failure}") from self._failure

    def _execute(self) -> None:
        try:
            for bundle in self._dataset().iter_internal_ref_bundles():
                for ref in bundle.block_refs:
                    rows = ray.get(ref).to_pylist()
                    with self._changed:
                        self._found += rows
                        self._changed.notify_all()
        except Exception as error:
            with self._changed:
                self._failure = error
                self._changed.notify_all()

    def _dataset(self) -> Any:
        import pyarrow as pa
        from ray.data import DataContext, from_arrow
        from ray.data.llm import build_processor, vLLMEngineProcessorConfig

        DataContext.get_current().enable_progress_bars = False
        settings = equal_settings(self._engine)
        # Without this it asks for a GPU.
        on_cpu = {"placement_group_config": {"bundles": [{"CPU": 1}]}} if is_cpu_build() else {}
        processor = build_processor(
            vLLMEngineProcessorConfig(
                model_source=self._engine.model,
                engine_kwargs=dict(settings.engine_kwargs),
                **on_cpu,
                **settings.further,
            ),
            preprocess=self._preprocess,
            postprocess=Postprocess(self._problems),
            # Each task waits at the gate; two are as many as the cores at work.
            preprocess_map_kwargs={"concurrency": 2, "num_cpus": 0.5},
        )
        rows = [_WARM_UP_ROW] * BATCH_SIZE + self._rows
        # A block for each batch, so that none of the warm-up waits for rows behind the gate.
        blocks = [rows[first : first + BATCH_SIZE] for first in range(0, len(rows), BATCH_SIZE)]
        return processor(from_arrow([pa.Table.from_pylist(block) for block in blocks]))


def _row(place: int, asked: Asked, *, is_seeded: bool) -> dict[str, Any]:
    return {
        "place": place,
        "system": asked.system,
        "user": asked.user,
        "max_tokens": asked.max_tokens,
        "temperature": asked.sampling.temperature,
        "top_p": asked.sampling.top_p,
        "seed": asked.seed if is_seeded else 0,
    }


def _reply(asked: Asked, row: dict[str, Any]) -> Reply:
    return Reply(
        asked=asked,
        text=row["text"],
        num_prompt_tokens=row["prompt_tokens"],
        num_completion_tokens=row["completion_tokens"],
        grade=Grade(outcome=row["outcome"], score=row["score"], answer=row["answer"]),
    )


def _place(row: dict[str, Any]) -> int:
    return int(row["place"])
