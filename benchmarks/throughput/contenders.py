"""Two ways to the same completions as raw_engine.py's: our actor's loop, our whole path.

All three take the same VLLMEngineConfig, stay warm between passes, and are timed by the driver's
clock from the call to its answer, with the requests already in place.
"""

from __future__ import annotations

import asyncio
import functools
import os
import time
from collections.abc import Sequence
from contextlib import ExitStack

import ray

from benchmarks.throughput.raw_engine import pass_of
from benchmarks.throughput.workload import Pass, Prompt
from orca2_gen.config.engine import VLLMEngineConfig
from orca2_gen.engine import Request, VLLMEngine, set_engine_environment
from orca2_gen.records import Completion, Problem
from orca2_gen.run_directory.arrow_files import read_records
from ray_jobs.dispatch.leases import EngineUnit, ScoreUnit
from ray_jobs.dispatch.loop import dispatch
from ray_jobs.engines.watchdog import WatchedEngine
from ray_jobs.model_engines import engine_work
from ray_jobs.run import Run
from ray_jobs.stages import tally_of
from ray_jobs.units import committed_problems, groups, score_units

STALL_SECONDS = 300.0
START_SECONDS = 600.0


class LoopHost:
    """An actor that holds the engine as EngineActor builds it and feeds it encoded requests."""

    def __init__(self, config: VLLMEngineConfig, executor: str | None) -> None:
        set_engine_environment(config)
        self._vllm = VLLMEngine(config, executor)
        self._engine = WatchedEngine(
            self._vllm,
            stall_seconds=STALL_SECONDS,
            request_seconds=None,
            on_stall=lambda reason: os._exit(1),
        )
        self._requests: list[Request] = []

    async def load(self, requests: list[Request], ignore_eos: bool) -> None:
        """Takes the requests of the next pass."""
        import vllm
        from vllm.sampling_params import SamplingParams

        self._requests = requests
        # Scoring always stops at the end of a turn, so our Request has no `ignore_eos`; for given
        # lengths it is set in the SamplingParams that VLLMEngine finds in vLLM.
        vllm.SamplingParams = functools.partial(SamplingParams, ignore_eos=ignore_eos)

    async def generate(self, open_at_once: int) -> list[Completion]:
        """The Completions; `open_at_once` requests wait or run until none are left."""
        waiting = iter(self._requests)
        done: list[Completion] = []

        async def refill() -> None:
            for request in waiting:
                done.append(await self._engine.generate(request))

        await asyncio.gather(*(refill() for _ in range(open_at_once)))
        return done

    async def preemptions(self) -> int:
        return self._vllm.counts.preemptions

    async def close(self) -> None:
        self._engine.close()


class ActorLoop:
    """Our generation loop in a Ray actor; twice the batch is open, as dispatch keeps it."""

    def __init__(self, config: VLLMEngineConfig) -> None:
        started = time.perf_counter()
        self._open_at_once = 2 * config.max_num_seqs
        actor = ray.remote(num_cpus=0, max_restarts=0, max_concurrency=4)(LoopHost)
        self._host = actor.options(runtime_env={"env_vars": dict(config.env)}).remote(config, None)
        ray.get(self._host.load.remote([_request(_one_token())], False))
        ray.get(self._host.generate.remote(1))
        self.cold_start_seconds = time.perf_counter() - started

    def generate(self, prompts: Sequence[Prompt], *, ignore_eos: bool = False) -> Pass:
        requests = [_request(prompt) for prompt in prompts]
        ray.get(self._host.load.remote(requests, ignore_eos))
        started = time.perf_counter()
        done: list[Completion] = ray.get(self._host.generate.remote(self._open_at_once))
        seconds = time.perf_counter() - started
        assert len(done) == len(prompts)
        return pass_of(
            seconds,
            prompts,
            sum(completion.num_completion_tokens for completion in done),
            sum(completion.num_cached_tokens for completion in done),
        )

    def preemptions(self) -> int:
        return int(ray.get(self._host.preemptions.remote()))

    def close(self) -> None:
        ray.get(self._host.close.remote())
        ray.kill(self._host)


class WholePath:
    """The scoring stage of a real run on an EngineActor that outlives a pass.

    Its steps: template, tokenise, generate, grade, write Arrow, fsync, commit through the ledger.
    """

    def __init__(self, run: Run) -> None:
        """Starts the engine as `run_engines` does; the run's problems are already committed."""
        started = time.perf_counter()
        self._run = run
        self._problems = committed_problems(run)
        self._stack = ExitStack()
        self._work = self._stack.enter_context(
            engine_work(
                run, "scores", run.config.student, (), tally_of(run, "scores"), lambda receipt: None
            )
        )
        replicas = self._work.replicas
        replicas.settle()
        while not replicas.working:
            replicas.settle(ray.wait(replicas.pending, timeout=START_SECONDS)[0])
        self.cold_start_seconds = time.perf_counter() - started

    def blocks(self, name: str) -> list[list[Problem]]:
        """The problems of a set as `score` asks them: by unit, in each unit's order."""
        read = functools.cache(lambda entry: read_records(self._run.run_dir, entry, Problem))
        return [
            [read(entry)[row] for entry, rows in unit.rows for row in rows]
            for unit in self._units(name)
            if isinstance(unit, ScoreUnit)
        ]

    def score(self, name: str) -> Pass:
        """One pass over the set of this name, whose scores are then committed."""
        units = self._units(name)
        self._work.waiting.extend(units)
        started = time.perf_counter()
        dispatch(self._run.ledger, [self._work])
        seconds = time.perf_counter() - started
        receipts = [self._run.ledger.units["scores", unit.name.unit] for unit in units]
        counts = {
            key: sum(receipt.counts[key] for receipt in receipts) for key in receipts[0].counts
        }
        assert not self._work.replicas.has_died and not counts["rejected"]
        return Pass(
            seconds=seconds,
            requests=counts["input"],
            prompt_tokens=counts["prompt_tokens"],
            completion_tokens=counts["completion_tokens"],
            cached_tokens=counts["cached_tokens"],
        )

    @property
    def pid(self) -> int:
        """The id of the process that holds the engine."""
        [replica] = self._work.replicas.all
        assert replica.engine is not None
        return int(ray.get(replica.engine.actor.__ray_call__.remote(lambda actor: os.getpid())))

    def preemptions(self) -> int:
        """The engine's preemptions so far."""
        [replica] = self._work.replicas.all
        assert replica.engine is not None
        # What the actor writes to its file of figures is some seconds old.
        ask = replica.engine.actor.__ray_call__
        return int(ray.get(ask.remote(lambda actor: actor._figures.now().preemptions)))

    def close(self) -> None:
        """Ends the engine and its processes."""
        self._stack.close()

    def _units(self, name: str) -> list[EngineUnit]:
        [group] = [group for group in groups(self._problems) if group.name == name]
        return score_units(self._run, group, self._problems)


def _one_token() -> Prompt:
    return Prompt(
        problem_id="warm-up", strategy="", system="", user="", token_ids=(1,), max_tokens=1
    )


def _request(prompt: Prompt) -> Request:
    return Request(
        problem_id=prompt.problem_id,
        role="student",
        strategy=prompt.strategy,
        call=0,
        attempt=0,
        prompt_token_ids=prompt.token_ids,
        max_tokens=prompt.max_tokens,
    )
