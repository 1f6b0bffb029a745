from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from orca2_gen.chat import Chat
from orca2_gen.dataset.manifest import read_manifest
from orca2_gen.provenance.dataset_alone import Beside
from orca2_gen.provenance.verify import verify
from orca2_gen.strategies import OWN_FILE, Strategies, load_strategies
from tests.conftest import CHATML, Call, byte_level_bpe, write_tokenizer
from tests.dataset.test_shards import write_stream
from tests.dataset.test_write import build

Change = Callable[[pa.RecordBatch], pa.RecordBatch]


@pytest.fixture
def moved(tmp_path: Path, chatml: Chat, strategies: Strategies) -> Path:
    """A dataset's directory without its run."""
    build(tmp_path / "run", chatml, strategies)
    shutil.move(tmp_path / "run" / "dataset", tmp_path / "moved")
    shutil.rmtree(tmp_path / "run")
    return tmp_path / "moved"


def test_a_dataset_is_verified_without_its_run(moved: Path) -> None:
    found = verify(moved)
    assert found.findings == [] and found.table == [("dataset", 7, 7, 0, 0)]
    [note] = found.notes
    assert "holds no run" in note


def relabelled(batch: pa.RecordBatch) -> pa.RecordBatch:
    at = batch.schema.get_field_index("labels")
    return batch.set_column(at, batch.schema.field(at), batch.column("input_ids"))


def told_otherwise(batch: pa.RecordBatch) -> pa.RecordBatch:
    rows = batch.column("messages").to_pylist()
    rows[0][0]["content"] = "Think step by step."
    at = batch.schema.get_field_index("messages")
    column = pa.array(rows, batch.schema.field(at).type)
    return batch.set_column(at, batch.schema.field(at), column)


def doubled(batch: pa.RecordBatch) -> pa.RecordBatch:
    [one] = (
        pa.Table.from_batches([batch.slice(0, 1)] * batch.num_rows).combine_chunks().to_batches()
    )
    return one


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (relabelled, "labels are not the ids behind the prompt"),
        (told_otherwise, "prompts are not erased, e.g. that of t/train/0"),
        (doubled, "ids stand in it twice, e.g. t/train/0"),
        (lambda batch: batch.slice(1), "its summary is not that of its shards"),
    ],
)
def test_rows_that_the_manifest_does_not_prove_are_found(
    moved: Path, change: Change, said: str
) -> None:
    change_shard(moved, change)
    assert [finding for finding in verify(moved).findings if said in finding]


def change_shard(moved: Path, change: Change) -> None:
    """Changes the rows of the first shard, whose digest then is right again."""
    manifest = json.loads((moved / "manifest.json").read_text())
    name = manifest["files"][0]["path"]
    with pa.OSFile(str(moved / name)) as file, pa.ipc.open_stream(file) as stream:
        [batch] = list(stream)
    entry = write_stream(moved / name, change(batch).replace_schema_metadata(batch.schema.metadata))
    before, manifest["files"][0] = manifest["files"][0], dataclasses.asdict(entry)
    (moved / "manifest.json").write_text(json.dumps(manifest))
    described = (moved / "croissant.json").read_text().replace(before["sha256"], entry.sha256)
    sizes = f'"{before["bytes"]} B"', f'"{entry.bytes} B"'
    rewrite(moved, "croissant.json", described.replace(*sizes, 1).encode())
    manifest = json.loads((moved / "manifest.json").read_text())
    state = json.loads((moved / "state.json").read_text())
    if "_fingerprint" in state:  # the digest of the shards' digests
        shards = "".join(each["sha256"] for each in manifest["files"])
        state["_fingerprint"] = hashlib.sha256(shards.encode()).hexdigest()[:16]
        rewrite(moved, "state.json", json.dumps(state).encode())


def rewrite(moved: Path, name: str, body: bytes) -> None:
    """Writes a description, whose digest in the manifest then is right again."""
    (moved / name).write_bytes(body)
    manifest = json.loads((moved / "manifest.json").read_text())
    for entry in manifest["descriptions"]:
        if entry["path"] == name:
            entry |= {"bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}
    (moved / "manifest.json").write_text(json.dumps(manifest))


def with_another_id(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The rows, the first of which begins with another token."""
    for name in ("input_ids", "labels"):
        rows = batch.column(name).to_pylist()
        rows[0][0] = rows[0][0] + 1 if name == "input_ids" else rows[0][0]
        at = batch.schema.get_field_index(name)
        column = pa.array(rows, batch.schema.field(at).type)
        batch = batch.set_column(at, batch.schema.field(at), column)
    return batch


def quoting(batch: pa.RecordBatch) -> pa.RecordBatch:
    rows = batch.column("messages").to_pylist()
    rows[0][2]["content"] += " You solve problems step by step. Begin with what is given."
    at = batch.schema.get_field_index("messages")
    column = pa.array(rows, batch.schema.field(at).type)
    return batch.set_column(at, batch.schema.field(at), column)


def test_ids_are_proved_with_the_students_directory(moved: Path, chatml_dir: Path) -> None:
    found = verify(moved, Beside(model=chatml_dir))
    assert found.findings == []
    [note] = found.notes
    assert note == "the directory holds no run, so what its rows were made of is not looked at"
    assert found.verdict.startswith("All 7 prompts are")
    change_shard(moved, with_another_id)
    assert verify(moved).findings == []
    findings = verify(moved, Beside(model=chatml_dir)).findings
    assert any("num_proved is 7, that of its rows is 6" in finding for finding in findings)
    assert any("prompts are not erased, e.g. that of t/train/0" in line for line in findings)


def test_the_directory_of_another_student_is_named_and_proves_nothing(
    moved: Path, tmp_path: Path
) -> None:
    write_tokenizer(tmp_path / "T", byte_level_bpe(), "x" + CHATML, eos_token="<|im_end|>")
    found = verify(moved, Beside(model=tmp_path / "T"))
    [finding] = found.findings
    assert f"another tokenizer or template than {tmp_path / 'T'} has" in finding
    assert "\n" not in finding and "no ids" in found.notes[0]


FIELDS = {
    "num_examples": 8,
    "num_proved": 8,
    "num_instructed": 1,
    "num_quoting": 1,
    "num_unsought": 1,
    "quoted_words": 9,
    "cautious_message_sha256": "0" * 64,
    "tokenizer_digest": "0" * 64,
    "instructions_sha256": {"direct_answer": "0" * 64},
    "further_calls_sha256": {"direct_answer": ["0" * 64]},
    "rendered_sha256": {"system user assistant": "0" * 64},
    "digest": "0" * 64,
}


@pytest.mark.parametrize("is_signed", [False, True])
@pytest.mark.parametrize("name", FIELDS)
def test_a_changed_field_of_the_proof_is_found(
    moved: Path, chatml_dir: Path, name: str, is_signed: bool
) -> None:
    manifest = json.loads((moved / "manifest.json").read_text())
    assert manifest["proof"].keys() == FIELDS.keys()
    manifest["proof"][name] = FIELDS[name]
    (moved / "manifest.json").write_text(json.dumps(manifest))
    if is_signed and name != "digest":
        proof = read_manifest(moved).proof
        assert proof is not None
        manifest["proof"]["digest"] = proof.computed_digest()
        (moved / "manifest.json").write_text(json.dumps(manifest))
    else:
        assert verify(moved).findings
    beside = Beside(model=chatml_dir, strategies=OWN_FILE)
    assert [line for line in verify(moved, beside).findings if "proof" in line]


def test_an_answer_that_quotes_an_instruction_is_counted_against_the_manifest(moved: Path) -> None:
    change_shard(moved, quoting)
    [finding] = verify(moved).findings
    assert "num_quoting is 0, that of its rows is 1" in finding


def test_a_card_that_states_another_verdict_is_found_though_its_digest_is_right(
    moved: Path,
) -> None:
    card = (moved / "README.md").read_bytes()
    rewrite(
        moved, "README.md", card.replace(b"0 answers quote an instruction", b"No answers quote one")
    )
    [finding] = verify(moved).findings
    assert "README.md does not state the verdict" in finding


def test_a_dataset_of_other_strategies_is_searched_with_their_file(
    tmp_path: Path, chatml: Chat, strategies: Strategies
) -> None:
    file = tmp_path / "own.toml"
    file.write_text(OWN_FILE.read_text().replace("You solve problems", "You solve all problems"))
    build(tmp_path / "run", chatml, load_strategies(str(file)))
    moved = Path(shutil.move(tmp_path / "run" / "dataset", tmp_path / "moved"))
    found = verify(moved)
    assert found.findings == [] and "name the run's strategies file" in found.notes[0]
    found = verify(moved, Beside(strategies=file))
    assert found.findings == [] and "strategies file" not in found.notes[0]
    [finding] = verify(moved, Beside(strategies=OWN_FILE)).findings
    assert "other texts than those of" in finding and "step_by_step" in finding
    change_shard(moved, quoting)
    assert verify(moved).findings == []
    [finding] = verify(moved, Beside(strategies=file)).findings
    assert "num_quoting is 0, that of its rows is 1" in finding


def test_an_older_proof_is_compared_as_it_is(moved: Path, chatml_dir: Path) -> None:
    manifest = json.loads((moved / "manifest.json").read_text())
    proof = read_manifest(moved).proof
    assert proof is not None
    older = dataclasses.asdict(proof.as_older())
    names = ("num_examples", "num_proved", "instructions_sha256", "tokenizer_digest")
    manifest["proof"] = {n: older[n] for n in (*names, "cautious_message_sha256")}
    for name in ("figures", "facts", "card_version", "name"):  # which older ones had not, either
        del manifest[name]
    (moved / "manifest.json").write_text(json.dumps(manifest))
    found = verify(moved)
    assert found.findings == [] and "nobody looked for the words" in found.verdict
    found = verify(moved, Beside(model=chatml_dir))
    assert found.findings == [] and "no 8 words in a row" in found.verdict


def test_the_command_takes_the_students_directory_and_prints_the_verdict(
    moved: Path, chatml_dir: Path, orca2: Call, tmp_path: Path
) -> None:
    code, out, _ = orca2("verify", moved, "--model", chatml_dir)
    assert code == 0
    assert "proof: All 7 prompts are the cautious message" in out
    code, _, error = orca2("verify", moved, "--model", tmp_path)
    assert code == 2 and error.count("\n") == 1 and "--model" in error
    exported = tmp_path / "out"
    orca2("export", moved, exported, "--format", "jsonl", "--shape", "messages", "--no-compare")
    code, _, error = orca2("verify", exported, "--model", chatml_dir)
    assert code == 2 and "leave them out" in error


@pytest.mark.parametrize(
    "name", ["data-00000-of-00003.arrow", "state.json", "dataset_info.json", "README.md"]
)
def test_a_damaged_file_of_it_is_named(moved: Path, name: str) -> None:
    (moved / name).write_bytes((moved / name).read_bytes()[:-1])
    assert [finding for finding in verify(moved).findings if name in finding]
    (moved / name).unlink()
    assert [finding for finding in verify(moved).findings if name in finding]
