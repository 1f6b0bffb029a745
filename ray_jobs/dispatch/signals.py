"""How signals end a run: the first in order, the second at once.

Ray can end a driver silently, without a signal; `told_if_ended` reports it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from orca2_gen.exit_codes import INTERRUPTED

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
ENDED = (
    "Error: this process was ended from outside, or by Ray because its head or this node was lost; "
    "committed units stay: run the same command again to go on"
)
_TELL = "import sys; sys.stdin.readline() or print(sys.argv[1], file=sys.stderr)"


@contextmanager
def told_if_ended() -> Iterator[None]:
    """A context in which a second process says on stderr if this one ends silently.

    Ray ends a driver from C++, with exit code 1 and at most a line in a log file, when it writes to
    a raylet or an object store that is gone (ray 2.60: connection.cc, "The connection to the plasma
    store is failed"). No handler and no `finally` runs then, nor after SIGKILL.
    """
    teller = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _TELL, ENDED],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is for the process that it watches
    )
    try:
        yield
    finally:
        teller.communicate(b"\n")


@contextmanager
def deferred_interrupts() -> Iterator[Callable[[], bool]]:
    """A context with a function that says whether a signal came; leaving raises the interrupt.

    So the code inside ends where it wants to, and no commit is ever cut in two. A second signal
    ends the process at once. Outside the main thread, where Python runs no signal handlers, the
    context does nothing.

    Raises:
        KeyboardInterrupt: on leaving, if a signal came and nothing else was raised.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    came: list[int] = []

    def note(signum: int, frame: Any) -> None:
        # What is committed is on disk, and the lock of a dead process binds nobody.
        if came:
            os._exit(INTERRUPTED)
        came.append(signum)

    before = {signum: signal.signal(signum, note) for signum in _SIGNALS}
    try:
        yield lambda: bool(came)
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
    if came:
        raise KeyboardInterrupt
