"""RUN/engines/: what the processes of an engine print, kept where the driver can read it.

Ray keeps the output of an actor on its node, and of an actor that died tells only that it did. So
an actor writes to a file of the run: all that its children print lands there too, and stays when
they are killed. Each start of an engine begins with a line that holds its id.
"""

from __future__ import annotations

import os
import platform
import secrets
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from orca2_gen.run_directory.regular_files import open_regular
from ray_jobs.engines.causes import remedy, root_cause

MOST_BYTES = 16 << 20
"""Size of a log at which the next start of the engine begins another, and keeps this one beside."""
READ_BYTES = 1 << 20
"""Bytes at the end of a log that are read for a cause."""
_WORDS = "orca2-gen: this engine ends itself: "


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineLog:
    """The log of one engine, and one start of it."""

    path: Path
    start: str = field(default_factory=lambda: secrets.token_hex(4))
    """Id of the start."""

    def begin(self) -> None:
        """Lets this process and its later children print to the log; without a disk, to Ray's."""
        try:
            self.path.parent.mkdir(exist_ok=True)
            with suppress(FileNotFoundError):
                if self.path.stat().st_size > MOST_BYTES:
                    self.path.replace(self.path.with_suffix(".old.log"))
            log = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        except OSError as error:
            print(f"warning: {self.path} cannot be written: {error}", file=sys.stderr, flush=True)
            return
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        now = time.strftime("%FT%TZ", time.gmtime())
        os.write(log, f"{self._mark} at {now} on {platform.node()}\n".encode())
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.close(log)

    def add_is_up(self) -> None:
        """Writes that the engine is up: what was printed before is not why it dies."""
        os.write(2, f"{self._mark} is up on {platform.node()}\n".encode())

    @staticmethod
    def add_last_words(reason: str) -> None:
        """Writes why this process is about to end itself."""
        os.write(2, f"{_WORDS}{reason}\n".encode())

    def _printed(self) -> tuple[str, bool, str]:
        """The node, whether the engine was up, and what was printed there since it was or began.

        The texts are empty if nothing was printed, or nobody can read it.
        """
        with suppress(OSError, ValueError), open_regular(self.path) as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - READ_BYTES))
            text = file.read(READ_BYTES).decode(errors="replace")
            _, mark, after = text.rpartition(self._mark)
            where, _, printed = after.partition("\n")
            # Without a mark, so much was printed since that only its end was read.
            was_up = not mark or " is up " in where
            return (where.rpartition(" ")[2] if mark else ""), was_up, printed if mark else text
        return "", False, ""

    def why(self, told: str, *, is_sure: bool = False) -> str:
        """Why this start ended, in one line, with the node, the log and what to do.

        Args:
            told: the reason as Ray tells it.
            is_sure: whether that is the reason, whatever was printed; else it is for an engine that
                printed none.
        """
        node, was_up, printed = self._printed()
        lines = printed.splitlines()
        words = [line for line in lines if line.startswith(_WORDS)]
        others = "\n".join(line for line in lines if not line.startswith(_WORDS))
        cause = "" if is_sure else root_cause(others, latest=was_up)
        reasons = [*(line.removeprefix(_WORDS) for line in words[-1:]), *([cause] if cause else [])]
        reason = ": ".join(reasons) or told
        where = [f"on {node}"] if node else []
        log = [f"see {self.path}"] if printed.strip() else []
        said = (reason, remedy(reason), ", ".join([*where, *log]))
        return "; ".join(part for part in said if part)

    @property
    def _mark(self) -> str:
        return f"orca2-gen: start {self.start}"
