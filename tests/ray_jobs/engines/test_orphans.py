"""Nothing of an engine outlives its actor, even if the actor had no time to end it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import psutil
import pytest

from ray_jobs.engines.orphans import LOOK_SECONDS, SHARED_MEMORY, mapped, marked

ACTOR = """
import os, subprocess, sys, time
from ray_jobs.engines.orphans import MARK, guard

line = guard()
sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
grandchild = f"import subprocess; subprocess.Popen({sleep!r}, start_new_session=True).wait()"
child = subprocess.Popen([sys.executable, "-c", grandchild])
without = {name: value for name, value in os.environ.items() if name != MARK}
stranger = subprocess.Popen(sleep, env=without)
print(os.environ[MARK], stranger.pid, flush=True)
time.sleep(600)
"""


def becomes_true(condition: Callable[[], bool], seconds: float = 30.0) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


def is_running(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def guards(mark: str) -> list[int]:
    """The ids of the running guards of this mark."""
    found = psutil.process_iter(["cmdline", "status"])
    return [
        process.pid
        for process in found
        if process.info["status"] != psutil.STATUS_ZOMBIE
        and (process.info["cmdline"] or [""])[-1] == mark
    ]


@pytest.mark.parametrize("stopped", [False, True])
def test_children_of_a_killed_actor_are_gone_and_no_other_process(stopped: bool) -> None:
    actor = subprocess.Popen([sys.executable, "-c", ACTOR], stdout=subprocess.PIPE, text=True)
    assert actor.stdout is not None
    mark, stranger = actor.stdout.readline().split()
    try:
        assert becomes_true(lambda: len(marked(mark)) == 2)
        [keeper] = guards(mark)
        assert keeper not in (child.pid for child in psutil.Process(actor.pid).children())
        children = marked(mark)
        if stopped:
            for pid in children:
                os.kill(pid, signal.SIGSTOP)
        actor.kill()
        actor.wait()
        assert becomes_true(lambda: not any(map(is_running, children)))
        assert becomes_true(lambda: not is_running(keeper))
        assert is_running(int(stranger))
    finally:
        os.kill(int(stranger), signal.SIGKILL)


def test_a_guard_ends_once_its_line_is_closed() -> None:
    code = "import os; from ray_jobs.engines.orphans import MARK, guard; line = guard()"
    code += "; print(os.environ[MARK], flush=True); input(); line.close(); input()"
    actor = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert actor.stdin is not None and actor.stdout is not None
    try:
        mark = actor.stdout.readline().strip()
        assert len(guards(mark)) == 1
        print(file=actor.stdin, flush=True)
        assert becomes_true(lambda: guards(mark) == [])
        assert actor.poll() is None
    finally:
        actor.kill()
        actor.wait()


MAPPER = """
import mmap, multiprocessing, sys, time
from multiprocessing import resource_tracker
files = [open(name, "r+b") for name in sys.argv[1:]]
lock = multiprocessing.get_context("spawn").Lock()
resource_tracker.unregister(lock._semlock.name, "semaphore")  # which removes it, unless killed
held = [mmap.mmap(file.fileno(), 0) for file in files]
print("/dev/shm/sem." + lock._semlock.name.strip("/"), flush=True)
time.sleep(600)
"""

STARTING_ACTOR = """
import os, subprocess, sys, time
from ray_jobs.engines.orphans import MARK, guard, tell_it_is_up

line = guard()
command = [sys.executable, "-c", *sys.argv[2:]]
engine = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
semaphore = engine.stdout.readline().strip()
if sys.argv[1] == "up":
    tell_it_is_up(line)
print(os.environ[MARK], engine.pid, semaphore, flush=True)
time.sleep(600)
"""


@pytest.fixture
def shared() -> Iterator[dict[str, Path]]:
    """Files in shared memory: an engine's, one shared with a stranger, a stranger's, a model."""
    odd = os.fsdecode(b"weights \x0c\x85\xe9-")  # legal in a file's name, but not UTF-8
    names = {"engine": "psm_", "both": "nccl-", "model": odd, "strangers": "psm_"}
    found = {key: SHARED_MEMORY / f"{name}orca2test{uuid4().hex}" for key, name in names.items()}
    for path in found.values():
        path.write_bytes(bytes(4096))
    yield found
    for path in found.values():
        path.unlink(missing_ok=True)


@pytest.mark.parametrize("state", ["starting", "up"])
def test_shared_memory_of_a_killed_actors_engine_is_removed_and_no_other(
    shared: dict[str, Path], state: str
) -> None:
    def mapper(*keys: str) -> list[str]:
        return [MAPPER, *(str(shared[key]) for key in keys)]

    stranger = subprocess.Popen(
        [sys.executable, "-c", *mapper("both")], stdout=subprocess.PIPE, text=True
    )
    actor = subprocess.Popen(
        [sys.executable, "-c", STARTING_ACTOR, state, *mapper("engine", "both", "model")],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert actor.stdout is not None and stranger.stdout is not None
    try:
        shared["stranger's semaphore"] = Path(stranger.stdout.readline().strip())
        mark, engine, semaphore = actor.stdout.readline().split()
        shared["semaphore"] = Path(semaphore)
        assert all(path.exists() for path in shared.values())
        assert guards(mark)
        time.sleep(5 * LOOK_SECONDS)
        os.kill(int(engine), signal.SIGKILL)  # first, so that nothing can be learnt from it
        actor.kill()
        actor.wait()
        gone = ("engine", "semaphore")
        assert becomes_true(lambda: not any(shared[key].exists() for key in gone))
        of_stranger = {shared["both"], shared["stranger's semaphore"]}
        assert mapped(shared.values(), [stranger.pid]) == of_stranger
        stranger.kill()
        stranger.wait()
        assert becomes_true(lambda: guards(mark) == [])
        left = {key for key, path in shared.items() if path.exists()}
        assert left == {"model", "strangers", "stranger's semaphore"}
    finally:
        stranger.kill()
        actor.kill()


def test_shared_memory_that_a_killed_actor_made_itself_is_removed(shared: dict[str, Path]) -> None:
    guarded = "from ray_jobs.engines.orphans import guard\nline = guard()\n" + MAPPER
    actor = subprocess.Popen(
        [sys.executable, "-c", guarded, str(shared["engine"])], stdout=subprocess.PIPE, text=True
    )
    assert actor.stdout is not None
    try:
        semaphore = Path(actor.stdout.readline().strip())
        assert semaphore.exists()
        time.sleep(5 * LOOK_SECONDS)
        actor.kill()
        actor.wait()
        assert becomes_true(lambda: not (semaphore.exists() or shared["engine"].exists()))
        assert shared["strangers"].exists()
    finally:
        actor.kill()


LATE_MAPPER = f"""
import sys
sys.stdin.read()
{MAPPER}
"""


@pytest.mark.parametrize("moment", ["before its end", "after its actor's"])
def test_shared_memory_that_no_look_could_see_is_removed_and_a_strangers_is_not(
    moment: str, shared: dict[str, Path]
) -> None:
    wait = "import os, subprocess, sys, time\nfrom ray_jobs.engines.orphans import guard\n"
    wait += "line = guard()\nsys.stdin.read()\n"
    ended = "import os\nos.kill(os.getpid(), 9)\n"
    made = MAPPER.replace("time.sleep(600)\n", ended)
    if moment == "before its end":
        code = wait + made
    else:  # the engine outlives its actor and ends by itself
        late = f"import time\ntime.sleep({2 * LOOK_SECONDS})\n{made}"  # well within the grace
        code = f"{wait}subprocess.Popen([sys.executable, '-c', {late!r}])\n{ended}"
    command = [sys.executable, "-c", code]
    actor = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    command = [sys.executable, "-c", LATE_MAPPER]
    stranger = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert actor.stdin is not None and stranger.stdin is not None
    try:
        time.sleep(10 * LOOK_SECONDS)  # the guard has seen the files of before
        stranger.stdin.close()
        actor.stdin.close()
        assert stranger.stdout is not None and actor.stdout is not None
        shared["stranger's semaphore"] = Path(stranger.stdout.readline().strip())
        of_engine = Path(actor.stdout.readline().strip())
        assert becomes_true(lambda: not of_engine.exists())
        assert shared["stranger's semaphore"].exists()
        assert shared["strangers"].exists()
    finally:
        stranger.kill()
        actor.kill()
