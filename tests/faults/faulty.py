"""An engine actor with planned faults, and `orca2` with it: `python -m tests.faults.faulty`.

The plan is `faults.json` beside the run directory:

    die_on        problem id, or `role|problem id` -> how often a request for it ends the actor's
                  process (-1: always)
    die_on_role   every request for this role ends the actor's process
    die_after     numbers of requests, after each of which the actor's process ends once
    hang_on       problem ids whose requests never return, once
    slow          problem id -> seconds during which its requests go on making tokens
    says          problem id, or `role|problem id` -> text of its completions for the script's
    waits_for     problem id -> a pattern of files in the run directory, one of which must be there
    fail_starts   number of engine starts that raise
    slow_start    seconds that a start takes
    skewed        number of engines that report another version of vLLM
    allocate_mb   memory that one engine takes and touches at its first request

Files count the faults that happened and the requests, by their ids, since processes die.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

import ray

from orca2_gen.engine import WARM_UP, Engine, EngineLoad, Request
from orca2_gen.records import Completion
from orca2_gen.scripted_engine import Script
from ray_jobs.engines import placement
from ray_jobs.engines.actor import EngineActor
from ray_jobs.engines.versions import Versions

PLAN = "faults.json"
REQUESTS = "requests.log"
RESOURCE = "ORCA2_TEST_RESOURCE"
"""Variable that names a resource that a node must have to take an engine: scripted engines need
none and may go to the head, which no test can remove. `NAME=1` takes one of it for each engine."""


def plant(run_dir: Path, **faults: Any) -> None:
    """Writes the plan of a run directory that may not exist yet."""
    run_dir.parent.mkdir(parents=True, exist_ok=True)
    (run_dir.parent / PLAN).write_text(json.dumps(faults))


def happened(run_dir: Path, what: str) -> int:
    """The number of times that a fault of this name has happened."""
    return len(list(run_dir.parent.glob(f"{what}.*.happened")))


def asked(run_dir: Path) -> list[tuple[int, str]]:
    """(process id of the engine's actor, request id) of all requests to faulty engines so far."""
    return [(int(pid), name) for pid, _, name in _requests(run_dir)]


def hosts_asked(run_dir: Path) -> set[str]:
    """The hosts whose faulty engines were asked anything so far."""
    return {host for _, host, _ in _requests(run_dir)}


def _requests(run_dir: Path) -> list[list[str]]:
    """Process id, host and request id of each request so far."""
    log = run_dir.parent / REQUESTS
    lines = log.read_text().splitlines() if log.exists() else []
    return [line.split(" ", 2) for line in lines]


class FaultyEngine:
    """An Engine that fails by plan."""

    def __init__(self, engine: Engine, run_dir: Path, plan: dict[str, Any]) -> None:
        self._engine, self._run_dir, self._plan = engine, run_dir, plan
        self._requests = 0
        self._allocated = bytearray()
        self._slow_tokens = 0

    async def generate(self, request: Request) -> Completion:
        if request.problem_id == WARM_UP:
            return await self._engine.generate(request)
        with open(self._run_dir.parent / REQUESTS, "a") as log:
            print(os.getpid(), platform.node(), request.request_id, file=log)
        self._requests += 1
        if self._plan.get("allocate_mb", 0) and mark(self._run_dir, "allocate_mb", 1):
            self._allocated = bytearray(self._plan["allocate_mb"] << 20)
            for page in range(0, len(self._allocated), 4096):
                self._allocated[page] = 1
            await asyncio.sleep(60.0)  # the kernel or Ray kills it meanwhile
        problem_id = request.problem_id
        die_on = self._plan.get("die_on", {})
        times = die_on.get(problem_id, die_on.get(f"{request.role}|{problem_id}", 0))
        slug = problem_id.replace("/", "_")
        if times and mark(self._run_dir, f"die_on.{slug}", sys.maxsize if times < 0 else times):
            os._exit(1)
        if request.role == self._plan.get("die_on_role"):
            os._exit(1)
        num = self._requests
        if num in self._plan.get("die_after", ()) and mark(self._run_dir, f"die_after.{num}", 1):
            os._exit(1)
        if problem_id in self._plan.get("hang_on", ()) and mark(self._run_dir, "hang_on", 1):
            await asyncio.sleep(1e6)
        end = time.monotonic() + self._plan.get("slow", {}).get(problem_id, 0.0)
        while time.monotonic() < end:
            await asyncio.sleep(0.1)
            self._slow_tokens += 1
        if pattern := self._plan.get("waits_for", {}).get(problem_id):
            while not any(self._run_dir.glob(pattern)):
                await asyncio.sleep(0.1)
        return await self._engine.generate(request)

    @property
    def is_dead(self) -> bool:
        return self._engine.is_dead

    @property
    def num_generated_tokens(self) -> int:
        return self._engine.num_generated_tokens + self._slow_tokens

    @property
    def load(self) -> EngineLoad:
        return self._engine.load

    def close(self) -> None:
        self._engine.close()


class FaultyActor(EngineActor):
    def __init__(self, run_dir: Path, **arguments: Any) -> None:
        file = run_dir.parent / PLAN
        plan = json.loads(file.read_text()) if file.exists() else {}
        if mark(run_dir, "fail_starts", plan.get("fail_starts", 0)):
            raise RuntimeError("planned: this engine does not start")
        self._slow_start = plan.get("slow_start", 0.0)
        self._skewed = plan.get("skewed", 0)
        self._fault_plan = plan
        super().__init__(run_dir, **arguments)

    def _loaded(self) -> Engine:
        engine: Any = super()._loaded()
        if says := self._fault_plan.get("says"):
            engine._script = saying(says, engine._script)
        return FaultyEngine(engine, self._run_dir, self._fault_plan)

    async def ready(self) -> Versions:
        await asyncio.sleep(self._slow_start)
        versions = await super().ready()
        return (("vllm", "0.0"),) if mark(self._run_dir, "skewed", self._skewed) else versions


def saying(says: dict[str, str], script: Script) -> Script:
    """The script, but for the problems of a plan."""

    def said(request: Request) -> str:
        planned = says.get(request.problem_id, says.get(f"{request.role}|{request.problem_id}"))
        return script(request) if planned is None else planned

    return said


def mark(run_dir: Path, what: str, most: int) -> bool:
    """Whether this fault may still happen; if so, it is counted."""
    if happened(run_dir, what) >= most:
        return False
    name = f"{what}.{os.getpid()}-{time.monotonic_ns()}.happened"
    (run_dir.parent / name).touch()
    return True


# Ray's processes cannot import a test module.
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])


if __name__ == "__main__":
    from orca2_gen.cli import main

    placement.EngineActor = FaultyActor  # type: ignore[misc]
    if RESOURCE in os.environ:
        options = placement.actor_options
        resource, _, amount = os.environ[RESOURCE].partition("=")
        needed = {"resources": {resource: float(amount or 0.001)}}
        placement.actor_options = lambda placed: options(placed) | needed
    main()
