"""Files of a run that were damaged, cut or edited (faults 19 to 22); no engine and no Ray."""

from __future__ import annotations

import json
import shutil
import signal
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from orca2_gen.dataset.manifest import checked_manifest
from orca2_gen.exit_codes import USAGE
from orca2_gen.provenance.verify import verify
from orca2_gen.run_directory.claim import MARK
from tests.conftest import Call
from tests.faults.drivers import ROOT
from tests.test_older_run import MADE_AT, OLDER_RUN
from train.examples import load_examples

TOKENIZER = OLDER_RUN / "tokenizer"
LISTED = sorted(
    path.relative_to(OLDER_RUN / "RUN").as_posix()
    for folder in (OLDER_RUN / "RUN").iterdir()
    if folder.is_dir()
    for path in sorted(folder.glob("*.arrow"))[:1]
)
"""One Arrow file of every stage and of the dataset."""


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A copy of a finished run, with copies of all that it was made from."""
    moved = Path(shutil.copytree(OLDER_RUN, tmp_path / "moved"))
    found = moved / "RUN"
    for file in (found / "config.json", moved / "run.toml"):
        file.write_text(file.read_text().replace(MADE_AT, str(moved)))
    return found


def batch_ends(body: bytes) -> list[int]:
    """The places in an Arrow stream at which a batch ends."""
    stream = pa.BufferReader(body)
    ends = []
    while stream.tell() < len(body) - 8:  # the mark of the end
        pa.ipc.read_message(stream)
        ends.append(stream.tell())
    return ends[1:]  # without the schema


def cut_at_a_batch(body: bytes) -> bytes:
    """The stream without its last batch, or for an Arrow file half of it."""
    if body.startswith(b"ARROW1"):
        return body[: len(body) // 2]
    return body[: batch_ends(body)[-2] if len(batch_ends(body)) > 1 else len(body) - 8]


def flip(body: bytes) -> bytes:
    at = len(body) // 2
    return body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :]


DAMAGES: dict[str, Callable[[bytes], bytes | None]] = {
    "flipped": flip,
    "cut": cut_at_a_batch,
    "empty": lambda body: b"",
    "longer": lambda body: body + b"\0",
    "missing": lambda body: None,
}


def damage(path: Path, how: str) -> None:
    body = DAMAGES[how](path.read_bytes())
    path.unlink()
    if body is not None:
        path.write_bytes(body)


@pytest.mark.parametrize("how", DAMAGES)
def test_19_verify_names_every_damaged_file_of_every_stage(
    run_dir: Path, orca2: Call, how: str
) -> None:
    assert verify(run_dir).findings == []
    for name in LISTED:
        whole = (run_dir / name).read_bytes()
        damage(run_dir / name, how)
        assert any(name.rpartition("/")[2] in f for f in verify(run_dir).findings), name
        (run_dir / name).write_bytes(whole)
    assert verify(run_dir).findings == []


@pytest.mark.parametrize("how", DAMAGES)
def test_19_a_trainer_refuses_a_damaged_shard_before_it_is_mapped(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    def train() -> int:
        found = load_examples(run_dir / "dataset", prompts="erased", model_dir=TOKENIZER)
        return len(found)

    assert train() > 0
    monkeypatch.setattr("train.examples.datasets.load_from_disk", None)
    [shard, *_] = sorted((run_dir / "dataset").glob("data-*.arrow"))
    damage(shard, how)
    with pytest.raises(ValueError, match=shard.name) as refused:
        train()
    assert "\n" not in str(refused.value)


def spoil_an_offset(path: Path) -> None:
    """Overwrites one offset of the strings in an Arrow stream."""
    body = bytearray(path.read_bytes())
    buffer = pa.py_buffer(bytes(body))
    table = pa.ipc.open_stream(buffer).read_all()
    offsets = table.column("problem_id").chunk(0).buffers()[1]
    at = offsets.address - buffer.address + 4 * (table.num_rows // 2)
    body[at : at + 4] = struct.pack("<i", 0x7FFFFFF0)
    path.write_bytes(bytes(body))


READERS = {
    "nobody checks": "import datasets; "
    "print(datasets.load_from_disk({dataset!r})['problem_id'][:])",
    "a trainer": "from train.examples import load_examples; "
    "load_examples(Path({dataset!r}), prompts='erased', model_dir=Path({tokenizer!r}))",
    "a reader": "from orca2_gen.dataset.manifest import checked_manifest; "
    "from orca2_gen.dataset.manifest import read_examples; d = Path({dataset!r}); "
    "list(read_examples(d, checked_manifest(d)))",
    "verify": "import sys; sys.argv = ['orca2', 'verify', {run!r}]; "
    "from orca2_gen.cli import main; main()",
}


def read_in_a_child(reader: str, run_dir: Path) -> subprocess.CompletedProcess[str]:
    code = "from pathlib import Path; " + READERS[reader].format(
        dataset=str(run_dir / "dataset"), tokenizer=str(TOKENIZER), run=str(run_dir)
    )
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("reader", READERS)
def test_20_a_spoiled_offset_is_stopped_by_a_checksum_and_crashes_nobody(
    run_dir: Path, reader: str
) -> None:
    shard = run_dir / "dataset" / "data-00000-of-00001.arrow"
    assert shard.exists()
    spoil_an_offset(shard)
    child = read_in_a_child(reader, run_dir)
    if reader == "nobody checks":
        assert child.returncode == -signal.SIGSEGV, "a harmless offset, which shows nothing"
        return
    assert child.returncode == 1, child.stderr
    assert shard.name in (child.stdout + child.stderr).replace("\n", "")


def test_21_a_manifest_cut_at_any_byte_is_refused_by_name(run_dir: Path) -> None:
    path = run_dir / "dataset" / "manifest.json"
    body = path.read_bytes()
    for length in range(0, len(body) - 1, 7):
        path.write_bytes(body[:length])
        with pytest.raises(ValueError, match=r"manifest\.json") as refused:
            checked_manifest(run_dir / "dataset")
        assert "\n" not in str(refused.value)


def test_21_a_manifest_of_a_later_version_says_so(run_dir: Path, orca2: Call) -> None:
    path = run_dir / "dataset" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"version": 99}))
    with pytest.raises(ValueError, match="version 99"):
        checked_manifest(run_dir / "dataset")
    code, out, err = orca2("verify", run_dir)
    assert code == 1 and "version 99" in (out + err).replace("\n", " ")
    assert "Traceback" not in err


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text, path
    path.write_text(text.replace(old, new, 1))


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "config": (lambda at: None, "max_attempts"),
    "strategies": (lambda at: edit(at / "strategies.toml", "small", "tiny"), "prompts."),
    "template": (
        lambda at: edit(at / "tokenizer" / "chat_template.jinja", "{{", "{{ '' }}{{"),
        "rooms.student",
    ),
    "tasks": (lambda at: (at / "sums.jsonl").open("a").write("\n"), "sums"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_22_a_changed_input_refuses_the_run_with_the_difference_and_touches_nothing(
    run_dir: Path, orca2: Call, change: str
) -> None:
    how, word = CHANGES[change]
    how(run_dir.parent)
    before = {path: path.read_bytes() for path in run_dir.rglob("*") if path.is_file()}
    sets = ["--set", "rationales.max_attempts=7"] if change == "config" else []
    code, _, err = orca2("run", run_dir / "config.json", "--set", f"run_dir={run_dir}", *sets)
    assert code == USAGE, err
    [reason] = [line for line in err.splitlines() if line.startswith("Error: ")]
    assert word in reason and "--fork" in reason, reason
    after = {path: path.read_bytes() for path in run_dir.rglob("*") if path.is_file()}
    mark = run_dir / MARK  # which an older run gets
    assert {path: body for path, body in after.items() if path != mark} == before
