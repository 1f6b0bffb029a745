"""Equality of two formulas, by math-verify in child processes that can be killed.

    python -m orca2_gen.grading.formula_equality

is one child: it reads one JSON object per line and writes one per line.

SymPy hangs on a power tower and uses up the machine's memory, in C, where no exception reaches it;
so it never runs in a process that holds an engine. A child is started by exec, not by fork, and
lives until an item passes its deadline or its parent closes the pipe. Formulas that are equal as
text, or are two plain numbers, need no child.
"""

from __future__ import annotations

import atexit
import json
import os
import queue
import resource
import select
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

from orca2_gen.grading.equality import verdict
from orca2_gen.records import Outcome

USUAL_CHILDREN = 2
"""Children per process, unless it may have more; one does about fifty items a second."""
MOST_CHILDREN = 8
"""Children with which a process keeps up with any engine: an H100 makes about 130 answers a second
with a model of 7 billion parameters."""
DEADLINE_SECONDS = 1.0
"""Seconds of a child's CPU per item: a machine that is busy elsewhere must not change a verdict."""
MOST_SECONDS = 10.0
"""Seconds of the clock per item; a child that is stopped or starved reaches them first."""
START_SECONDS = 120.0
"""Seconds to import SymPy and parse a formula: half a second, but more on a loaded machine."""
MAX_FORMULA_CHARS = 1_000
CHILD_BYTES = 1 << 30
"""Bytes of address space; SymPy needs 70 MB."""

THREADS = ThreadPoolExecutor(max_workers=MOST_CHILDREN, thread_name_prefix="mathematics")
"""The threads in which an asyncio loop waits for a child; its own executor stays free."""


class _Child:
    """A process that compares formulas, and the pipes to it."""

    def __init__(self) -> None:
        root = str(Path(__file__).parents[1])
        # Only the module path of the parent's environment is passed on: no credentials, no CUDA.
        search = os.pathsep.join((root, *(os.path.abspath(path) for path in sys.path if path)))
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "orca2_gen.grading.formula_equality"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={"PYTHONPATH": search, "PATH": os.defpath, "LC_ALL": "C.UTF-8"},
            cwd="/",
            start_new_session=True,  # only the parent handles an interrupt at the terminal
        )
        self.pid = self._process.pid
        self._rest = b""
        reply = self._read_line(START_SECONDS) or {}
        if reply.get("error", "") is not None:
            self.kill()
            raise RuntimeError(
                "a child process for formulas (python -m orca2_gen.grading.formula_equality) did "
                f"not start: {reply.get('error') or 'it ended or sent no reply'}; check that "
                "math-verify is installed"
            )

    def ask(self, golds: tuple[str, ...], answer: str) -> Outcome | None:
        """The verdict, `ungraded` if its time was up, or None if the child died of another cause.

        A child that gives no verdict is dead.
        """
        request = json.dumps({"golds": golds, "answer": answer}) + "\n"
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(request.encode())
            self._process.stdin.flush()
        except OSError:
            self.kill()
            return None
        started = time.monotonic()
        reply = self._read_line(MOST_SECONDS)
        if reply is not None:
            return cast(Outcome, reply["outcome"])
        is_late = time.monotonic() - started >= MOST_SECONDS
        self.kill()
        return "ungraded" if is_late or self._process.returncode == -signal.SIGPROF else None

    def _read_line(self, seconds: float) -> dict[str, Any] | None:
        """The next reply, or None if none came in time or none will."""
        assert self._process.stdout is not None
        file, deadline = self._process.stdout.fileno(), time.monotonic() + seconds
        poll = select.poll()
        poll.register(file, select.POLLIN)
        while b"\n" not in self._rest:
            left = deadline - time.monotonic()
            if left <= 0 or not poll.poll(1000 * left):
                return None
            got = os.read(file, 1 << 16)
            if not got:
                return None
            self._rest += got
        line, _, self._rest = self._rest.partition(b"\n")
        reply: dict[str, Any] = json.loads(line)
        return reply

    @property
    def is_alive(self) -> bool:
        """Whether it can take an item."""
        return self._process.returncode is None

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):  # the last bytes written can no longer be sent
                    pipe.close()


_idle: queue.LifoQueue[_Child | None] = queue.LifoQueue()
"""The idle children; None is one that has not been started."""
_num_children = 0


def allow_children(num: int) -> None:
    """Lets this process have `num` children, at most MOST_CHILDREN; they start as they are needed.

    Call it before the first item.
    """
    global _num_children
    for _ in range(_num_children, min(num, MOST_CHILDREN)):
        _idle.put(None)
        _num_children += 1


allow_children(USUAL_CHILDREN)


def compare(golds: tuple[str, ...], answer: str) -> Outcome:
    """The verdict on whether the answer equals one of the gold formulas.

    It waits for a child, up to MOST_SECONDS besides the queue and a child's start. `unparsed` if
    the answer is not a formula, `ungraded` if no gold is one, time was up, or the child died of the
    item twice.

    Raises:
        RuntimeError: no child can be started.
    """
    if max(map(len, (*golds, answer))) > MAX_FORMULA_CHARS:
        return "ungraded"
    child = _idle.get()
    try:
        for _ in range(2):
            child = child or _Child()
            outcome = child.ask(golds, answer)
            if not child.is_alive:
                child = None
            if outcome is not None:
                return outcome
        return "ungraded"
    finally:
        _idle.put(child)


def close() -> None:
    """Ends the children after their current items; the next item starts new ones."""
    children = [_idle.get() for _ in range(_num_children)]
    for child in children:
        if child is not None:
            child.kill()
        _idle.put(None)


atexit.register(close)


def _serve() -> None:
    """Answers requests until the pipe is closed."""
    resource.setrlimit(resource.RLIMIT_AS, (CHILD_BYTES, CHILD_BYTES))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # a library's output must not look like a reply
    try:
        # The first formula builds the parser's tables, which must not count as grading.
        ready = verdict(["\\frac{1}{2}"], "0.5x^2 - \\sqrt{3}") == "incorrect"
        error = None if ready else "it cannot tell 1/2 from 0.5x^2 - sqrt(3)"
    except ImportError as failure:
        error = str(failure)
    print(json.dumps({"error": error}), file=replies, flush=True)
    for line in sys.stdin:
        # The kernel's timer ends this process even in C code, and if the parent is gone.
        signal.setitimer(signal.ITIMER_PROF, DEADLINE_SECONDS)
        outcome = verdict(**json.loads(line))
        signal.setitimer(signal.ITIMER_PROF, 0)
        print(json.dumps({"outcome": outcome}), file=replies, flush=True)


if __name__ == "__main__":
    _serve()
