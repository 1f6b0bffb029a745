"""The exit codes of a run, and the errors behind them."""

from __future__ import annotations

from orca2_gen.run_directory.arrow_files import DamagedFile
from orca2_gen.run_directory.digests import ChangedInput
from orca2_gen.run_directory.lock import RunInUse

FAILED = 1
"""Stopped by a failure; the same command continues."""
USAGE = 2
REJECTED = 3
"""Finished, or stopped, with too many rejections."""
INTERRUPTED = 75
"""EX_TEMPFAIL of sysexits.h: the same command continues."""


class TooManyRejections(RuntimeError):
    """A stage rejects more of its rows than the config allows."""


def exit_code(error: BaseException) -> int | None:
    """The exit code of a command that raises this; None for a defect, whose traceback is needed."""
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    if isinstance(error, TooManyRejections):
        return REJECTED
    if isinstance(error, (ChangedInput, DamagedFile, RunInUse)):
        return FAILED
    if isinstance(error, ValueError):
        return USAGE
    # Ray's own errors: their classes are only known once a command has imported ray.
    if isinstance(error, (RuntimeError, OSError)) or type(error).__module__.startswith("ray."):
        return FAILED
    return None
