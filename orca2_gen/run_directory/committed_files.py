"""The files behind committed units: do they still have the sizes and digests of the ledger?

A stage checks what it reads. A finished run reads little again, so a damaged file would pass; this
check looks at every committed file, by size always, by digest if asked.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from orca2_gen.run_directory.arrow_files import DamagedFile, FileEntry, inside
from orca2_gen.run_directory.ledger import Ledger
from orca2_gen.run_directory.regular_files import UnusableFile, open_regular, shown

MOST_NAMED = 20
"""Damaged files that an error names, at most."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CommittedFiles:
    """The check of one run directory's committed files."""

    ledger: Ledger
    by_digest: bool
    """Whether to compare digests too, which reads every file."""
    digests: dict[tuple[int, ...], str] = field(default_factory=dict)
    """Device, inode, size and times of a file -> its digest, computed by this process: a file that
    none of them has changed for is not read twice."""

    def check(self) -> str:
        """A line for people that says how many files were checked, and how.

        Raises:
            DamagedFile: files differ from the ledger; a line names each of the first 20.
        """
        entries = [e for receipt in self.ledger.units.values() for e in receipt.files]
        faults = [fault for entry in entries if (fault := self._fault(entry))]
        run_dir = self.ledger.run_dir
        if faults:
            shown_faults = faults[:MOST_NAMED]
            if len(faults) > MOST_NAMED:
                shown_faults.append(f"and {len(faults) - MOST_NAMED} more")
            raise DamagedFile(
                f"{run_dir}: {len(faults)} of {len(entries)} committed files are damaged; "
                + "\n  ".join([_remedy(run_dir), *shown_faults])
            )
        if self.by_digest:
            return f"checked {len(entries)} committed files by size and digest"
        return (
            f"checked {len(entries)} committed files by size; with `--check` the command compares "
            "their digests too"
        )

    def _fault(self, entry: FileEntry) -> str:
        """What is wrong with a file; empty if nothing is."""
        path = shown(self.ledger.run_dir / entry.path)
        try:
            return self._difference(inside(self.ledger.run_dir, entry.path), entry)
        except (FileNotFoundError, NotADirectoryError):
            return f"{path} is listed but absent"
        except (DamagedFile, UnusableFile) as error:
            return str(error)
        except (OSError, RuntimeError, ValueError) as error:  # a loop of links, a name too long
            reason = error.strerror if isinstance(error, OSError) else error
            return f"{path} cannot be read: {reason}"

    def _difference(self, path: Path, entry: FileEntry) -> str:
        found = os.stat(path)
        if stat.S_ISREG(found.st_mode) and found.st_size != entry.bytes:
            return f"{path} has {found.st_size} bytes, its list says {entry.bytes}"
        if stat.S_ISREG(found.st_mode) and not self.by_digest:
            return ""
        with open_regular(path) as file:
            status = os.fstat(file.fileno())
            times = (status.st_mtime_ns, status.st_ctime_ns)
            key = (status.st_dev, status.st_ino, status.st_size, *times)
            if key not in self.digests:
                self.digests[key] = hashlib.file_digest(file, "sha256").hexdigest()
        if self.digests[key] != entry.sha256:
            return f"{path} has a SHA-256 other than its list says"
        return ""


@contextmanager
def naming_fork(run_dir: Path) -> Iterator[None]:
    """Adds to the error of a damaged committed file what to do about it."""
    try:
        yield
    except DamagedFile as error:
        if type(error) is not DamagedFile or "--fork" in str(error):
            raise
        raise DamagedFile(f"{error}; {_remedy(run_dir)}") from error


def _remedy(run_dir: Path) -> str:
    return (
        f"restore from a copy, or give another run_dir with --fork {run_dir}, which makes damaged "
        "units again"
    )
