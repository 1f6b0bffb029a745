"""RUN/dataset before it is written again: only what we wrote is removed, the rest is set aside.

    RUN/.writing-dataset.json     stands there while a dataset is being written

People save their own data under the very names that `datasets` uses. What we wrote is known by size
and digest, from the manifest; while that note stands and no manifest does, a driver was killed
between the two, and whatever bears our names is its unfinished work.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from orca2_gen.run_directory.digests import file_digest
from orca2_gen.run_directory.durable_files import write_bytes
from orca2_gen.run_directory.regular_files import read_regular
from orca2_gen.run_directory.unlisted import SET_ASIDE, set_aside

_NOTE = ".writing-dataset.json"
_MANIFEST = "manifest.json"
_MOST_BYTES = 256 << 20
_NAMES = re.compile(
    r"data-[0-9]{5}-of-[0-9]{5}\.arrow|state\.json|dataset_info\.json|README\.md|croissant\.json|"
    r"manifest\.json"
)
_TEMPORARY = re.compile(rf"\.({_NAMES.pattern})\.tmp-.+-[0-9]+-[0-9a-f]{{8}}")
_CARD_LINE = b"\nMade by orca2-gen. "


def make_way(run_dir: Path, say: Callable[[str], None]) -> None:
    """Empties RUN/dataset of our files and moves others that stand in the way to RUN/set-aside/.

    `say` takes a line about those, if there are any.
    """
    root = run_dir / "dataset"
    if (root.is_symlink() and not root.exists()) or (root.exists() and not root.is_dir()):
        set_aside(run_dir, root)
    listed = _listed(root / _MANIFEST)
    is_unfinished = listed is None and (run_dir / _NOTE).is_file()
    moved = []
    for path in sorted(root.glob("*")):
        if not _NAMES.fullmatch(path.name) or is_unfinished:
            continue
        if not _is_ours(path, listed or {}):
            set_aside(run_dir, path)
            moved.append(path.name)
    write_bytes(run_dir / _NOTE, b"{}\n")
    # The manifest goes first: without it, nobody takes what is left for a dataset.
    (root / _MANIFEST).unlink(missing_ok=True)
    for path in sorted(root.glob("*")):
        if _NAMES.fullmatch(path.name) or _TEMPORARY.fullmatch(path.name):
            path.unlink()
    if moved:
        say(
            f"moved {len(moved)} file{'s' * (len(moved) > 1)} that this run did not write as they "
            f"are ({', '.join(moved[:3])}{', ...' * (len(moved) > 3)}) from {root} to "
            f"{run_dir / SET_ASIDE / 'dataset'}"
        )


def way_is_used(run_dir: Path) -> None:
    """Says that RUN/dataset is whole: its manifest stands."""
    (run_dir / _NOTE).unlink(missing_ok=True)


def _listed(manifest: Path) -> dict[str, tuple[int, str]] | None:
    """Name -> size and digest, of the files that a manifest of ours lists; None if it is none."""
    try:
        body: Any = json.loads(read_regular(manifest, _MOST_BYTES))
        entries = [*body["files"], *body.get("descriptions", [])]
        found = {str(entry["path"]): (entry["bytes"], entry["sha256"]) for entry in entries}
        return found if "plan_digest" in body else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _is_ours(path: Path, listed: dict[str, tuple[int, str]]) -> bool:
    if path.is_symlink() or not path.is_file():
        return False
    if path.name == _MANIFEST:
        return bool(listed)
    if path.name in listed:
        size, digest = listed[path.name]
        return path.stat().st_size == size and file_digest(path) == digest
    # Older manifests do not list the card.
    if path.name != "README.md" or path.stat().st_size > _MOST_BYTES:
        return False
    return bool(listed) and _CARD_LINE in path.read_bytes()
