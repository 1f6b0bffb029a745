"""A Ray actor that hosts one engine and works on leases; it writes files and returns receipts, and
commits nothing.
"""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from orca2_gen.chat import load_chat
from orca2_gen.config import engine_directory
from orca2_gen.config_schema import EngineConfig, RationalesConfig, VLLMEngineConfig
from orca2_gen.engine import (
    Engine,
    ScriptedEngine,
    VLLMEngine,
    planted_script,
    set_engine_environment,
)
from orca2_gen.ledger import Receipt, write_unit
from orca2_gen.rationales import Asking, teach
from orca2_gen.records import Problem, Rationale, Rejection, Selection, StudentScore
from orca2_gen.scoring import score
from orca2_gen.shards import FileEntry, read_records
from orca2_gen.strategies import load_strategies
from ray_jobs.leases import EngineLease, ScoreLease, TeachLease

PROBLEM_FILES_IN_MEMORY = 64


class EngineActor:
    """One engine and what it needs to turn a lease into a receipt. Many leases are worked on at
    once.
    """

    def __init__(
        self,
        run_dir: Path,
        config: EngineConfig,
        *,
        strategies: str | None,
        rationales: RationalesConfig,
        run_seed: int,
    ) -> None:
        self._run_dir = run_dir
        self._strategies = load_strategies(strategies)
        self._chat = load_chat(engine_directory(config))
        self._asking = Asking(**rationales.model_dump(), run_seed=run_seed)
        self._seen: dict[str, Problem] = {}
        self._read = functools.lru_cache(PROBLEM_FILES_IN_MEMORY)(self._read_problems)
        self._engine: Engine
        if isinstance(config, VLLMEngineConfig):
            set_engine_environment(config)
            self._engine = VLLMEngine(config)
        else:
            script = planted_script(self._seen, config.accuracy, run_seed)
            self._engine = ScriptedEngine(self._chat, script)

    async def ready(self) -> int:
        """The process id, once the engine is up."""
        return os.getpid()

    async def work(self, lease: EngineLease) -> AsyncIterator[Receipt]:
        """The receipts of a lease."""
        try:
            receipt = await (
                self._score(lease) if isinstance(lease, ScoreLease) else self._teach(lease)
            )
        except Exception:
            if self._engine.is_dead:
                # vLLM's EngineCore is a process of its own and can die without this one. Ray's
                # exit_actor would wait for the other leases, which wait for that engine.
                os._exit(1)
            raise
        yield receipt

    async def close(self) -> None:
        """Ends the engine and its processes."""
        self._engine.close()

    async def _score(self, lease: ScoreLease) -> Receipt:
        problems = [self._read(entry)[row] for entry, rows in lease.rows for row in rows]
        # Strategy by strategy, so that requests that share an instruction share its cached prefix.
        scores = await asyncio.gather(
            *(
                score(
                    problem,
                    strategy,
                    role=lease.role,
                    engine=self._engine,
                    chat=self._chat,
                    strategies=self._strategies,
                    max_tokens=lease.max_tokens,
                )
                for strategy in lease.strategies
                for problem in problems
            )
        )
        return await asyncio.to_thread(
            write_unit, self._run_dir, lease.name, scores, StudentScore, (), _token_counts(scores)
        )

    async def _teach(self, lease: TeachLease) -> Receipt:
        [selection] = read_records(self._run_dir, lease.selection, Selection)
        results = await asyncio.gather(
            *(
                teach(
                    problem,
                    selection.strategy,
                    engine=self._engine,
                    chat=self._chat,
                    strategies=self._strategies,
                    asking=self._asking,
                )
                for problem in self._read(lease.problems)
            )
        )
        rationales = [r for r in results if isinstance(r, Rationale)]
        rejections = [r for r in results if isinstance(r, Rejection)]
        return await asyncio.to_thread(
            write_unit,
            self._run_dir,
            lease.name,
            rationales,
            Rationale,
            rejections,
            _token_counts(rationales),
        )

    def _read_problems(self, entry: FileEntry) -> list[Problem]:
        problems = read_records(self._run_dir, entry, Problem)
        self._seen.update((problem.problem_id, problem) for problem in problems)
        return problems


def _token_counts(rows: Sequence[StudentScore] | Sequence[Rationale]) -> dict[str, int]:
    counts = {
        "prompt_tokens": sum(row.num_prompt_tokens for row in rows),
        "completion_tokens": sum(row.num_completion_tokens for row in rows),
    }
    if rows and isinstance(rows[0], StudentScore):
        counts["cached_tokens"] = sum(
            row.num_cached_tokens for row in rows if isinstance(row, StudentScore)
        )
    return counts
