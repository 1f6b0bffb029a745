"""A function's answers from a process that ends with it, and takes along all that it imported.

A driver lives as long as its run. Chat templates and models' configs need transformers, and whether
a student can be trained needs torch: 200 MB that nothing needs once the inputs are read.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from orca2_gen.exit_codes import USAGE, exit_code
from orca2_gen.run_directory.arrow_files import DamagedFile
from orca2_gen.run_directory.digests import ChangedInput

Answer = TypeVar("Answer")

# A fork would begin with locks that threads of this process hold.
_SPAWN = multiprocessing.get_context("spawn")
_DONE = ("done", None)
_OURS = (ChangedInput, DamagedFile)


def answers_of(function: Callable[..., Iterator[Answer]], *arguments: object) -> Iterator[Answer]:
    """What a function of a module yields for these arguments, each as soon as it is there.

    A process that holds transformers already calls the function itself: another would save nothing.

    Raises:
        RuntimeError: the process ended early, as one does for which there is no memory.
        Exception: the function raised it.
    """
    if "transformers" in sys.modules:
        yield from function(*arguments)
        return
    ours, theirs = _SPAWN.Pipe(duplex=False)
    process = _SPAWN.Process(target=_send_answers, args=(theirs, function, arguments), daemon=True)
    process.start()
    theirs.close()
    try:
        while (message := ours.recv()) != _DONE:
            kind, content = message
            if kind == "raised":
                raise content
            yield content
    except EOFError:
        process.join()
        raise RuntimeError(
            f"the process that reads the inputs ended with exit code {process.exitcode} (-9: "
            "killed, mostly for lack of memory); free some, then run the same command again"
        ) from None
    finally:
        process.kill()
        process.join()
        ours.close()


def _send_answers(
    to: Connection, function: Callable[..., Iterator[Any]], arguments: tuple[object, ...]
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to both; the parent decides
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        for answer in function(*arguments):
            to.send(("answer", answer))
        to.send(_DONE)
    except Exception as error:
        to.send(("raised", _sendable(error)))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _sendable(error: Exception) -> Exception:
    """An error with the same exit code and text, of a class that any process can read.

    A defect brings its traceback.
    """
    if isinstance(error, _OURS):
        return error
    code = exit_code(error)
    if code is None:
        return RuntimeError(traceback.format_exc())
    return ValueError(str(error)) if code == USAGE else RuntimeError(str(error))
