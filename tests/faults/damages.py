"""Damaged run directories as a table: what is damaged, the commands, their exit code, their words.

A command's output holds one line with all of the words, no traceback, and names its file. The
damages are those of a bad disk, a hand in the wrong file, and a run directory from a stranger:
where a list holds digests, they fit what lies there.
"""

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
from orca2_gen.run_directory.arrow_files import arrow_schema
from orca2_gen.run_directory.ledger import Receipt
from tests.provenance.test_verify import rewrite_ledger

VERIFY, RUN, CHECK, STATUS = ("verify",), ("run",), ("run", "--check"), ("status",)
RUN_STAGES = ("problems", "scores", "selections", "rationales", "examples")
OLDER_STAGES = ("judgements", "evaluation_problems", "evaluation")
OUTSIDE = "../../../../../../../../etc/passwd"


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


def of_stage(stage: str, damage: Callable[[Path], None]) -> Callable[[Path], None]:
    return lambda run_dir: damage(unit_file(run_dir, stage))


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


DAMAGES = [
    *(
        damage(
            f"a flipped bit in {stage}",
            of_stage(stage, flip),
            f"{stage}/",
            "SHA-256",
            commands=(VERIFY, CHECK),
        )
        for stage in (*RUN_STAGES, "rejections")
    ),
    *(
        damage(
            f"a cut file in {stage}",
            of_stage(stage, cut),
            f"{stage}/",
            "bytes",
            commands=(VERIFY, RUN),
        )
        for stage in (*RUN_STAGES, "rejections")
    ),
    *(
        damage(
            f"a deleted file of {stage}",
            of_stage(stage, Path.unlink),
            f"{stage}/",
            "absent",
            commands=(VERIFY, RUN),
        )
        for stage in (*RUN_STAGES, "rejections")
    ),
    *(
        damage(
            f"a flipped bit in {stage}",
            of_stage(stage, flip),
            f"{stage}/",
            "SHA-256",
            is_older=True,
        )
        for stage in OLDER_STAGES
    ),
    *(
        damage(
            f"{make.__name__} in place of scores",
            of_stage("scores", make),
            "scores/",
            commands=(VERIFY, RUN),
        )
        for make in (to_folder, to_fifo, to_loop, to_device, to_absent_target, to_outside)
    ),
    damage(
        "scores of 200 GB",
        of_stage("scores", to_sparse),
        "scores/",
        "bytes",
        commands=(VERIFY, RUN, CHECK),
    ),
    damage("a null in scores", null_in_scores, "scores/", "null"),
    # Ledger lines with a right checksum.
    *(
        damage(f"{stage} of another key", change_unit(stage, stage_key="0" * 32), stage)
        for stage in RUN_STAGES
    ),
    *(
        damage(
            f"{stage} of another key", change_unit(stage, stage_key="0" * 32), stage, is_older=True
        )
        for stage in OLDER_STAGES
    ),
    *(
        damage(f"{stage} of another group", change_unit(stage, group=other_group), stage)
        for stage in RUN_STAGES
    ),
    *(
        damage(
            f"{stage} of another group",
            change_unit(stage, group=other_group),
            f"{stage}/",
            is_older=True,
        )
        for stage in OLDER_STAGES
    ),
    *(
        damage(f"{stage} under another name", change_unit(stage, unit="sums-000009"), stage)
        for stage in RUN_STAGES
    ),
    *(
        damage(f"{stage} with another count", count(stage, "accepted"), stage, "counts")
        for stage in RUN_STAGES
    ),
    damage("scores with other tokens", count("scores", "completion_tokens"), "completion_tokens"),
    damage("scores with other survivors", count("scores", "survivors"), "survivors"),
    damage(
        "a unit without files",
        change_unit("scores", files=()),
        "scores/",
        "0 files",
        commands=(VERIFY,),
    ),
    damage("a unit without counts", change_unit("scores", counts={}), "scores/", "counts"),
    damage("a unit of an unknown stage", change_unit("scores", stage="marks"), "marks/"),
    damage(
        "a path that leads out", change_path("scores", OUTSIDE), "leads out", commands=(VERIFY, RUN)
    ),
    damage(
        "an absolute path",
        change_path("scores", "/etc/passwd"),
        "leads out",
        commands=(VERIFY, RUN),
    ),
    damage(
        "a path of 4,096 letters", change_path("scores", "x" * 4096), "xxx", commands=(VERIFY, RUN)
    ),
    damage(
        "a path with a NUL",
        change_path("scores", "scores/a\0b"),
        "scores/a",
        commands=(VERIFY, RUN),
    ),
    damage("no unit of examples", drop_units("examples"), "0 examples"),
    damage("no unit of selections", drop_units("selections"), "selected None"),
    damage(
        "a damaged line",
        lambda run_dir: flip(run_dir / "ledger.jsonl"),
        "ledger.jsonl",
    ),
    damage("a ledger that is a FIFO", of_file("ledger.jsonl", to_fifo), "ledger.jsonl"),
    # The dataset.
    damage("a shard that leads out", outside_shard, "leads out"),
    damage("a shard with a flipped bit", of_stage("dataset", flip), "data-00000", "SHA-256"),
    damage("a shard that the manifest does not list", add_shard, "data-00001", "not listed"),
    *(
        damage(f"{name} damaged", of_file(f"dataset/{name}", make), name)
        for name in ("state.json", "dataset_info.json", "README.md")
        for make in (flip, Path.unlink)
    ),
    damage(
        "a damaged card of an older run",
        of_file("dataset/README.md", flip),
        "README.md",
        is_older=True,
    ),
    damage(
        "a deleted card of an older run",
        of_file("dataset/README.md", Path.unlink),
        "README.md",
        is_older=True,
    ),
    damage(
        "a shard named twice",
        describe("state.json", lambda s: s["_data_files"].append(s["_data_files"][0])),
        "state.json",
        "_data_files",
    ),
    damage(
        "another split",
        describe("state.json", lambda s: s.update(_split="test")),
        "state.json",
        "_split",
    ),
    damage("a state that is a list", describe("state.json", lambda s: [1]), "state.json"),
    damage(
        "other features",
        describe("dataset_info.json", lambda i: i["features"].pop("task")),
        "dataset_info.json",
        "features",
    ),
    damage(
        "a manifest without descriptions",
        edit(MANIFEST, lambda m: void(m.pop("descriptions"))),
        "manifest.json",
        "state.json",
    ),
    damage(
        "a manifest without summary",
        edit(MANIFEST, lambda m: void(m.pop("summary"))),
        "manifest.json",
        "summary",
    ),
    damage(
        "another summary",
        edit(MANIFEST, lambda m: m["summary"].update(trained_tokens=1)),
        "dataset",
        "summary",
    ),
    damage("another proof", edit(MANIFEST, lambda m: m["proof"].update(num_proved=1)), "proof"),
    damage("no proof", edit(MANIFEST, lambda m: m.update(proof=None)), "proof"),
    damage("another key", edit(MANIFEST, lambda m: m.update(examples_key="0")), "key"),
    damage("other prompts", edit(MANIFEST, lambda m: m.update(prompts="foreign")), "foreign"),
    damage(
        "another tokenizer", edit(MANIFEST, lambda m: m.update(tokenizer_digest="0")), "tokenizer"
    ),
    damage("another version", edit(MANIFEST, lambda m: m.update(version=2)), "version 2"),
    damage("a version in words", edit(MANIFEST, lambda m: m.update(version="1")), "version"),
    damage("files that are an object", edit(MANIFEST, lambda m: m.update(files={})), "files"),
    damage("rows in words", edit(MANIFEST, lambda m: m["files"][0].update(rows="9")), "rows"),
    damage("a manifest of {}", text(MANIFEST, "{}"), "manifest.json"),
    damage("a manifest of []", text(MANIFEST, "[]"), "manifest.json"),
    damage("a manifest 100,000 deep", text(MANIFEST, "[" * 100_000), "manifest.json"),
    damage("a manifest that is a FIFO", of_file(MANIFEST, to_fifo), "manifest.json", "FIFO"),
    damage("a manifest of NULs", text(MANIFEST, b"\0" * 999), "manifest.json"),
    damage("no manifest", of_file(MANIFEST, Path.unlink), "manifest.json"),
    # config.json.
    *(
        damage(
            f"a config.json of {body[:20]!r}",
            text(CONFIG, body),
            "config.json",
            commands=(VERIFY, RUN),
        )
        for body in (
            b"",
            b"{}",
            b"[]",
            b"1",
            b"null",
            b"[" * 100_000,
            b"9" * 5000,
            b"\xff",
            b"\0" * 99,
            b'{"stages": [], "config": {}}',
            b'{"stages": {"problems": []}, "config": {}}',
            b'{"stages": {}, "config": {}, "config": {}}',
            b'{"stages": {}, "strategies": 1}',
        )
    ),
    *(
        damage(
            f"a config.json: {make.__name__}",
            of_file(CONFIG, make),
            "config.json",
            commands=(VERIFY, RUN),
        )
        for make in (to_fifo, to_loop, to_device, to_absent_target, to_sparse)
    ),
    damage("no config.json", of_file(CONFIG, Path.unlink), "config.json"),
    damage("no stages", edit(CONFIG, lambda c: c.update(stages={})), "config.json"),
    damage("no config", edit(CONFIG, lambda c: c.update(config={})), "config.json"),
    damage("a number for tasks", edit(CONFIG, lambda c: c["config"].update(tasks=1)), "tasks"),
    damage(
        "a text for a call",
        edit(CONFIG, lambda c: c["strategies"].update(further_calls={"none": ["x"]})),
        "config.json",
        "none",
    ),
    damage(
        "an instruction that is a number",
        edit(CONFIG, lambda c: c["strategies"].update(instructions=[["a", 1]])),
        "config.json",
        "instructions",
    ),
]
