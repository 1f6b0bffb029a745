"""One damage to a copy of a run directory, and the ways to make it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from orca2_gen.records import StudentScore
from orca2_gen.run_directory.record_tables import arrow_schema
from orca2_gen.run_directory.units import Receipt
from tests.provenance.test_verify import rewrite_ledger

VERIFY, RUN, CHECK, STATUS = ("verify",), ("run",), ("run", "--check"), ("status",)
RUN_STAGES = ("problems", "scores", "selections", "rationales", "examples")
OLDER_STAGES = ("judgements", "evaluation_problems", "evaluation")
OUTSIDE = "../../../../../../../../../../etc/passwd"


@dataclass(frozen=True, kw_only=True)
class Damage:
    what: str
    make: Callable[[Path], None]
    """Damages this run directory."""
    words: tuple[str, ...]
    """Words that one line of the output holds."""
    commands: tuple[tuple[str, ...], ...] = (VERIFY,)
    code: int = 1
    is_older: bool = False
    """Whether the directory is that of the older run, which has evaluations and judgements."""


def unit_file(run_dir: Path, stage: str) -> Path:
    """The first file of a stage."""
    return sorted((run_dir / stage).glob("*.arrow"))[0]


def flip(path: Path) -> None:
    body = bytearray(path.read_bytes())
    body[len(body) // 2] ^= 1
    path.write_bytes(body)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-8])


def to_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def to_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def to_loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


def to_device(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def to_absent_target(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def to_outside(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/passwd")


def to_sparse(path: Path) -> None:
    with open(path, "wb") as file:
        file.truncate(200 << 30)


def halve(path: Path) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[: len(lines) // 2]))


def empty(path: Path) -> None:
    path.write_bytes(b"")


def fill(path: Path) -> None:
    path.write_bytes(b"\0" * path.stat().st_size)


def of_stage(stage: str, damage: Callable[[Path], None]) -> Callable[[Path], None]:
    return lambda run_dir: damage(unit_file(run_dir, stage))


def of_refused(damage: Callable[[Path], None]) -> Callable[[Path], None]:
    """Damages the first file of a teacher's refused answers."""
    return lambda run_dir: damage(sorted((run_dir / "rationales").glob("*.refused.arrow"))[0])


def of_file(name: str, damage: Callable[[Path], None]) -> Callable[[Path], None]:
    return lambda run_dir: damage(run_dir / name)


def text(name: str, body: str | bytes) -> Callable[[Path], None]:
    """Replaces the contents of a file."""
    raw = body.encode() if isinstance(body, str) else body
    return lambda run_dir: void((run_dir / name).write_bytes(raw))


def void(_: object) -> None:
    pass


def edit(name: str, change: Callable[[Any], Any]) -> Callable[[Path], None]:
    """Changes the value of a JSON file."""

    def damage(run_dir: Path) -> None:
        body = json.loads((run_dir / name).read_text())
        changed = change(body)
        (run_dir / name).write_text(json.dumps(body if changed is None else changed))

    return damage


MANIFEST, CONFIG = "dataset/manifest.json", "config.json"


def describe(name: str, change: Callable[[Any], Any]) -> Callable[[Path], None]:
    """Changes a JSON file that the manifest lists, and its size and digest there."""

    def damage(run_dir: Path) -> None:
        edit(f"dataset/{name}", change)(run_dir)
        body = (run_dir / "dataset" / name).read_bytes()
        entry = {"bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}
        edit(MANIFEST, lambda manifest: relist(manifest["descriptions"], name, entry))(run_dir)

    return damage


def relist(entries: list[dict[str, Any]], name: str, entry: dict[str, Any]) -> None:
    next(each for each in entries if each["path"] == name).update(entry)


def outside_shard(run_dir: Path) -> None:
    """Lets state.json and manifest name a file outside, with its real size and digest."""
    body = Path("/etc/passwd").read_bytes()
    entry = {"path": OUTSIDE, "bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}
    edit(MANIFEST, lambda body: body["files"][0].update(entry))(run_dir)
    describe("state.json", lambda state: state["_data_files"][0].update(filename=OUTSIDE))(run_dir)


def change_unit(of: str, **fields: Any) -> Callable[[Path], None]:
    """Changes fields of the first ledger line, with a checksum that fits."""

    def change(receipts: list[Receipt]) -> list[Receipt]:
        at = next(n for n, r in enumerate(receipts) if r.stage == of)
        values = {
            name: value(getattr(receipts[at], name)) if callable(value) else value
            for name, value in fields.items()
        }
        receipts[at] = dataclasses.replace(receipts[at], **values)
        return receipts

    return lambda run_dir: rewrite_ledger(run_dir, change)


def other_group(group: str) -> str:
    return "letters" if group == "sums" else "sums"


def change_path(stage: str, path: str) -> Callable[[Path], None]:
    return change_unit(
        stage, files=lambda files: (dataclasses.replace(files[0], path=path), *files[1:])
    )


def count(stage: str, name: str) -> Callable[[Path], None]:
    return change_unit(stage, counts=lambda counts: counts | {name: counts[name] + 1})


def drop_units(*stages: str) -> Callable[[Path], None]:
    return lambda run_dir: rewrite_ledger(
        run_dir, lambda receipts: [r for r in receipts if r.stage not in stages]
    )


def null_in_scores(run_dir: Path) -> None:
    """Replaces a unit of scores by rows with nulls, whose digest fits."""
    schema = pa.schema([field.with_nullable(True) for field in arrow_schema(StudentScore)])

    def change(receipts: list[Receipt]) -> list[Receipt]:
        at = next(n for n, r in enumerate(receipts) if r.stage == "scores")
        entry = receipts[at].accepted
        with pa.ipc.open_file(pa.py_buffer((run_dir / entry.path).read_bytes())) as reader:
            rows = reader.read_all().to_pylist()
        rows[0]["text"] = None
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, schema) as writer:
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))
        body = sink.getvalue().to_pybytes()
        (run_dir / entry.path).write_bytes(body)
        entry = dataclasses.replace(entry, bytes=len(body), sha256=hashlib.sha256(body).hexdigest())
        receipts[at] = dataclasses.replace(receipts[at], files=(entry, *receipts[at].files[1:]))
        return receipts

    rewrite_ledger(run_dir, change)


def add_shard(run_dir: Path) -> None:
    root = run_dir / "dataset"
    shutil.copy(root / "data-00000-of-00001.arrow", root / "data-00001-of-00002.arrow")


def damage(what: str, make: Callable[[Path], None], *words: str, **rest: Any) -> Damage:
    return Damage(what=what, make=make, words=words, **rest)
