"""A Ray actor that hosts one engine: it writes files, returns receipts and commits nothing."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import os
import sys
import threading
import traceback
from collections.abc import AsyncIterator, Sequence
from operator import itemgetter
from pathlib import Path
from typing import IO, Any, Literal

from orca2_gen.chat import encode_text
from orca2_gen.config.arguments import engine_rendering
from orca2_gen.config.engine import EngineConfig, VLLMEngineConfig
from orca2_gen.config.load import engine_directory
from orca2_gen.config.schema import RationalesConfig
from orca2_gen.engine import WARM_UP, Engine, Request, VLLMEngine, set_engine_environment
from orca2_gen.grading.formula_equality import allow_children
from orca2_gen.judging import judge
from orca2_gen.lengths import plan_lengths
from orca2_gen.provenance.inputs import Inputs, check_engine, recorded_chat
from orca2_gen.rationales import Taught, teach
from orca2_gen.records import Problem, Rationale, Rejection, Selection, StudentScore
from orca2_gen.run_directory.arrow_files import FileEntry, read_records
from orca2_gen.run_directory.digests import ChangedInput
from orca2_gen.run_directory.engine_figures import EngineFigures, figures_path
from orca2_gen.run_directory.units import Receipt
from orca2_gen.scoring import score
from orca2_gen.scripted_engine import ScriptedEngine, planted_script
from ray_jobs.dispatch.leases import EngineUnit, JudgeUnit, Part, ScoreUnit, TeachUnit, asking_of
from ray_jobs.dispatch.receipts import Receipts, done_together
from ray_jobs.dispatch.unit_receipts import write_made
from ray_jobs.engines.compiling import compiling
from ray_jobs.engines.figures import CountedEngine, FiguresWriter
from ray_jobs.engines.logs import EngineLog
from ray_jobs.engines.orphans import guard, tell_it_is_up
from ray_jobs.engines.own_process import EnginePlace, free_cores, settled_place
from ray_jobs.engines.ray_metrics import RayMetrics
from ray_jobs.engines.versions import (
    GPU,
    Versions,
    engine_version,
    engines_named,
    installed_versions,
    working_versions,
)
from ray_jobs.engines.watchdog import WatchedEngine

PROBLEM_FILES_IN_MEMORY = 64
SCORE_FILES_IN_MEMORY = 256
"""Score files of open races: each block's scores are read again after every later block."""
LAST_WORDS_SECONDS = 5.0
WHOLE = Part(first=0, last=sys.maxsize)


class EngineActor:
    """One engine and all that it needs to turn units into receipts, for many leases at once."""

    def __init__(
        self,
        run_dir: Path,
        config: EngineConfig,
        *,
        executor: Literal["mp", "ray"] | None,
        log: EngineLog,
        figures: EngineFigures,
        inputs: Inputs,
        rationales: RationalesConfig,
        run_seed: int,
        stall_seconds: float,
        request_seconds: float | None,
    ) -> None:
        log.begin()
        self._place = settled_place()
        figures = dataclasses.replace(figures, node=self._place.node)
        self._figures = FiguresWriter(
            *(figures_path(run_dir, log.path.stem, log.start), figures, RayMetrics().publish)
        )
        # Before its first answer: an engine on a GPU makes more than the usual children grade.
        allow_children(free_cores(self._place))
        self._run_dir, self._log = run_dir, log
        self._inputs, self._config, self._executor = inputs, config, executor
        self._version = engine_version(config)
        self._asking = asking_of(rationales, config, run_seed)
        self._keeps_refused = rationales.keep_refused
        self._read = functools.lru_cache(PROBLEM_FILES_IN_MEMORY)(self._read_problems)
        self._read_scores = functools.lru_cache(SCORE_FILES_IN_MEMORY)(self._read_block)
        self._asked: dict[str, Problem] = {}
        self._guard: IO[bytes] | None = None
        self._run_seed = run_seed
        self._watched = functools.partial(
            WatchedEngine,
            stall_seconds=stall_seconds,
            request_seconds=request_seconds,
            on_stall=self._end_process,
        )

    async def placed(self) -> EnginePlace:
        """Its place; the actor answers as soon as it has its devices."""
        return self._place

    async def ready(self) -> Versions:
        """The versions of what makes its rows, once the engine has generated a token.

        Raises:
            ChangedInput: the model is not the one that the driver recorded.
        """
        try:
            check_engine(self._inputs, self._config)
            rendering = engine_rendering(self._config, self._inputs.template_date)
            self._chat = recorded_chat(self._inputs, engine_directory(self._config), rendering)
            # Nothing else is asked of the actor meanwhile, so nothing waits for the event loop.
            watched = self._watched(self._loaded())
            self._engine = CountedEngine(watched)
        except ChangedInput:
            raise
        except Exception:
            traceback.print_exc()  # into the log, where the driver looks for the cause
            raise
        # An engine that loads and cannot generate would die of every problem, and the problems
        # would be blamed.
        await watched.generate(
            Request(
                problem_id=WARM_UP,
                role="student",
                strategy="",
                call=0,
                attempt=0,
                prompt_token_ids=tuple(encode_text(self._chat, "1 + 1 =")),
                max_tokens=1,
            )
        )
        check_engine(self._inputs, self._config)  # again: vLLM has read the same files meanwhile
        if self._guard is not None:
            tell_it_is_up(self._guard)
        self._log.add_is_up()
        versions = working_versions()
        self._figures.is_up(self._engine, dict(versions).get(GPU, ""))
        return versions

    def _loaded(self) -> Engine:
        config = self._config
        if isinstance(config, VLLMEngineConfig):
            set_engine_environment(config)
            self._guard = guard()
            with compiling(config, installed_versions()):
                return VLLMEngine(config, self._executor)
        decode = self._chat.tokenizer.decode
        script = planted_script(self._asked, config.accuracy, self._run_seed, decode)
        return ScriptedEngine(self._chat, script)

    async def work(self, *units: EngineUnit) -> AsyncIterator[Receipts]:
        """The receipts of these units, as soon as they are done; those done together together."""
        tasks = {asyncio.create_task(self._work_on(unit)) for unit in units}
        try:
            async for receipts in done_together(tasks):
                yield receipts
        except Exception:
            if self._engine.is_dead:
                # vLLM's EngineCore is a process of its own and can die without this one. Ray's
                # exit_actor would wait for the other leases, which wait for that engine.
                self._end_process("its EngineCore died")
            raise
        finally:
            for task in tasks:
                task.cancel()

    async def close(self) -> None:
        """Ends the engine and its processes."""
        await asyncio.to_thread(self._figures.end)
        self._engine.close()
        if self._guard is not None:
            self._guard.close()

    def _end_process(self, reason: str) -> None:
        """Ends this process; Ray then ends the engine's children."""
        # In a thread, since the hanging part may be the very file system that this is written to.
        writing = threading.Thread(target=self._log.add_last_words, args=(reason,), daemon=True)
        writing.start()
        writing.join(LAST_WORDS_SECONDS)
        os._exit(1)

    async def _work_on(self, unit: EngineUnit) -> Receipt:
        part = unit.part or WHOLE
        problems = self._problems(unit)
        asked = {problem.problem_id: problem for problem in problems[part.first : part.last]}
        self._asked.update(asked)
        try:
            rows: list[Any]
            rejections: list[Rejection] = []
            refused: list[Rationale] = []
            engine = self._version
            if not isinstance(unit, TeachUnit):
                place = (unit.room, self._chat, self._inputs.strategies, unit.name.stage)
                fit, rejections = await asyncio.to_thread(plan_lengths, [*asked.values()], *place)
                if isinstance(unit, ScoreUnit):
                    rows = await self._score(unit, fit)
                else:
                    rows = await self._judge(unit, fit)
            else:
                taught = await self._teach(unit, list(asked.values()))
                rows = [row for each in taught for row in each.rationales]
                rejections = [each.rejection for each in taught if each.rejection is not None]
                engine = engines_named(engine, unit.stored_engine)
                if self._keeps_refused:
                    refused = [row for each in taught for row in each.refused]
        finally:
            for problem_id in asked:
                self._asked.pop(problem_id, None)
        made = (rows, rejections, self._read_scores, refused, engine)
        return await asyncio.to_thread(write_made, self._run_dir, unit, problems, *made)

    def _problems(self, unit: EngineUnit) -> Sequence[Problem]:
        if isinstance(unit, TeachUnit):
            return self._read(unit.problems)
        problems = [self._read(entry)[row] for entry, rows in unit.rows for row in rows]
        if isinstance(unit, ScoreUnit):
            return problems
        scored = {score.problem_id for score in self._read_scores(unit.scores)}
        return [problem for problem in problems if problem.problem_id in scored]

    async def _score(self, unit: ScoreUnit, problems: Sequence[Problem]) -> list[StudentScore]:
        # Strategy by strategy, so that requests that share an instruction share its cached prefix.
        return await asyncio.gather(
            *(
                self._engine.counted(
                    strategy,
                    score(
                        problem,
                        strategy,
                        role=unit.role,
                        engine=self._engine,
                        chat=self._chat,
                        strategies=self._inputs.strategies,
                        budget=unit.budget,
                    ),
                )
                for strategy in unit.strategies
                for problem in problems
            )
        )

    async def _judge(self, unit: JudgeUnit, planned: Sequence[Problem]) -> list[StudentScore]:
        problems = {problem.problem_id: problem for problem in planned}
        scores = [s for s in self._read_scores(unit.scores) if s.problem_id in problems]
        # Problem by problem, so that answers to one share its cached prefix.
        place = {problem_id: index for index, problem_id in enumerate(problems)}
        order = sorted(range(len(scores)), key=lambda index: place[scores[index].problem_id])
        judged = await asyncio.gather(
            *(
                self._engine.counted(
                    scores[index].strategy,
                    judge(
                        problems[scores[index].problem_id],
                        scores[index],
                        engine=self._engine,
                        chat=self._chat,
                        budget=unit.budget,
                    ),
                )
                for index in order
            )
        )
        return [score for _, score in sorted(zip(order, judged, strict=True), key=itemgetter(0))]

    async def _teach(self, unit: TeachUnit, problems: Sequence[Problem]) -> list[Taught]:
        [selection] = read_records(self._run_dir, unit.selection, Selection)
        stored: dict[str, list[Rationale]] = {}
        if unit.stored is not None:
            for row in read_records(self._run_dir, unit.stored, Rationale):
                if row.strategy == selection.strategy:
                    stored.setdefault(row.problem_id, []).append(row)
        return await asyncio.gather(
            *(
                self._engine.counted(
                    selection.strategy,
                    teach(
                        problem,
                        selection.strategy,
                        engine=self._engine,
                        chat=self._chat,
                        strategies=self._inputs.strategies,
                        asking=self._asking,
                        stored=stored.get(problem.problem_id, ()),
                    ),
                )
                for problem in problems
            )
        )

    def _read_problems(self, entry: FileEntry) -> list[Problem]:
        return read_records(self._run_dir, entry, Problem)

    def _read_block(self, entry: FileEntry) -> list[StudentScore]:
        return read_records(self._run_dir, entry, StudentScore)
