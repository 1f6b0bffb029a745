from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from orca2_gen.chat import Chat, load_chat
from orca2_gen.dataset.figures import DatasetSummary
from orca2_gen.dataset.manifest import checked_manifest, read_examples
from orca2_gen.dataset.verdict import verdict_of
from orca2_gen.dataset.write import DatasetPlan
from orca2_gen.records import Example
from orca2_gen.run_directory.arrow_files import FileEntry, write_records
from orca2_gen.strategies import Strategies
from tests.conftest import CHATML, byte_level_bpe, dataset_of, write_tokenizer
from tests.test_erasure import erased, rationale_of


def examples_of(
    chat: Chat, strategies: Strategies, num: int, prompts: str = "erased"
) -> list[Example]:
    example = erased(chat, strategies, rationale_of(strategies), prompts)
    return [dataclasses.replace(example, problem_id=f"t/train/{n}") for n in range(num)]


def plan_of(
    chat: Chat, entries: list[FileEntry], *, per_shard: int = 3, prompts: str = "erased"
) -> DatasetPlan:
    return DatasetPlan(
        examples=tuple(entries),
        tokenizer=chat.tokenizer.name_or_path,
        prompts=prompts,
        examples_per_shard=per_shard,
        key="k",
        name="run",
    )


def build(
    root: Path, chat: Chat, strategies: Strategies, num: int = 7, *, per_shard: int = 3
) -> tuple[DatasetSummary, list[Example]]:
    examples = examples_of(chat, strategies, num)
    entries = [
        write_records(root, f"examples/{n}.arrow", examples[n : n + 2], Example)
        for n in range(0, num, 2)
    ]
    return dataset_of(root, plan_of(chat, entries, per_shard=per_shard), strategies), examples


def contents(root: Path) -> dict[str, tuple[bytes, int]]:
    return {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in (root / "dataset").iterdir()}


@pytest.mark.parametrize("num", [0, 1, 7])
def test_load_from_disk_opens_it_with_every_row_and_feature_but_no_empty_thoughts(
    tmp_path: Path, chatml: Chat, strategies: Strategies, num: int
) -> None:
    from datasets import load_from_disk

    summary, examples = build(tmp_path, chatml, strategies, num)
    loaded = load_from_disk(str(tmp_path / "dataset"))
    assert set(loaded.column_names) == {
        "labels",
        *(field.name for field in dataclasses.fields(Example)),
    }
    assert loaded["problem_id"][:] == [e.problem_id for e in examples]
    for row, example in zip(loaded, examples, strict=True):
        assert tuple(row["input_ids"]) == example.input_ids
        assert row["labels"] == [
            -100 if place < example.num_prompt_tokens else token
            for place, token in enumerate(example.input_ids)
        ]
        assert row["messages"] == [
            {"role": message.role, "content": message.content} for message in example.messages
        ]
    assert summary.rows == num and summary.shards == max(1, -(-num // 3))
    assert (
        list(read_examples(tmp_path / "dataset", checked_manifest(tmp_path / "dataset")))
        == examples
    )


def test_the_summary_counts_every_token_once(
    tmp_path: Path, chatml: Chat, strategies: Strategies
) -> None:
    summary, examples = build(tmp_path, chatml, strategies)
    assert summary.input_tokens == sum(len(e.input_ids) for e in examples)
    assert summary.trained_tokens == sum(len(e.input_ids) - e.num_prompt_tokens for e in examples)
    assert summary.rows_by_task == {"t": 7}


def test_the_same_plan_is_kept_untouched(
    tmp_path: Path, chatml: Chat, strategies: Strategies
) -> None:
    first, _ = build(tmp_path, chatml, strategies)
    before = contents(tmp_path)
    assert build(tmp_path, chatml, strategies)[0] == first
    assert contents(tmp_path) == before


def test_a_dataset_made_with_fewer_shards_leaves_none_of_the_old(
    tmp_path: Path, chatml: Chat, strategies: Strategies
) -> None:
    build(tmp_path, chatml, strategies, per_shard=1)
    build(tmp_path, chatml, strategies, per_shard=4)
    assert sorted(p.name for p in (tmp_path / "dataset").glob("data-*")) == [
        "data-00000-of-00002.arrow",
        "data-00001-of-00002.arrow",
    ]


@pytest.mark.parametrize(
    "name",
    ["data-00001-of-00003.arrow", "state.json", "dataset_info.json", "README.md", "manifest.json"],
)
@pytest.mark.parametrize("damage", ["flip", "cut", "delete"])
def test_a_damaged_file_is_refused_and_made_again(
    tmp_path: Path, chatml: Chat, strategies: Strategies, name: str, damage: str
) -> None:
    build(tmp_path, chatml, strategies)
    whole = {name: body for name, (body, _) in contents(tmp_path).items()}
    path = tmp_path / "dataset" / name
    if damage == "delete":
        path.unlink()
    else:
        body = whole[name]
        path.write_bytes(body[:-9] if damage == "cut" else bytes([body[0] ^ 1]) + body[1:])
    with pytest.raises(ValueError, match=name):
        checked_manifest(tmp_path / "dataset")
    build(tmp_path, chatml, strategies)
    assert {name: body for name, (body, _) in contents(tmp_path).items()} == whole


def test_the_manifest_is_written_last_and_taken_away_first(
    tmp_path: Path, chatml: Chat, strategies: Strategies
) -> None:
    build(tmp_path, chatml, strategies)
    times = {name: mtime for name, (_, mtime) in contents(tmp_path).items()}
    assert max(times, key=lambda name: times[name]) == "manifest.json"
    kept = write_records(
        tmp_path,
        "examples/kept.arrow",
        examples_of(chatml, strategies, 2, "instruction_kept"),
        Example,
    )
    with pytest.raises(ValueError, match=r"2 of 2 examples .* no manifest was written"):
        dataset_of(tmp_path, plan_of(chatml, [kept]), strategies)
    with pytest.raises(ValueError, match="not a finished dataset"):
        checked_manifest(tmp_path / "dataset")


def test_a_template_that_writes_an_instruction_is_refused_by_name_words_and_place(
    tmp_path: Path, strategies: Strategies
) -> None:
    run = " ".join(strategies.instructions["step_by_step"].split()[:8])
    write_tokenizer(tmp_path / "T", byte_level_bpe(), run + CHATML, eos_token="<|im_end|>")
    with pytest.raises(ValueError, match="7 of 7 examples") as refused:
        build(tmp_path / "run", load_chat(str(tmp_path / "T")), strategies)
    line = str(refused.value)
    assert "\n" not in line and "no manifest was written" in line and str(tmp_path / "T") in line
    assert "e.g. t/train/0" in line and "before the system message" in line
    assert "8 words of the instruction of step_by_step, 'you solve problems step by" in line
    assert not (tmp_path / "run" / "dataset" / "manifest.json").exists()


def test_the_card_states_the_verdict_of_the_proof(
    tmp_path: Path, chatml: Chat, strategies: Strategies
) -> None:
    build(tmp_path, chatml, strategies)
    manifest = checked_manifest(tmp_path / "dataset")
    assert manifest.proof is not None
    assert manifest.proof.digest == manifest.proof.computed_digest()
    assert verdict_of(manifest.proof) in (tmp_path / "dataset" / "README.md").read_text()


def test_kept_instructions_are_named_so_in_manifest_and_card(
    tmp_path: Path, chatml: Chat, strategies: Strategies
) -> None:
    kept = write_records(
        tmp_path,
        "examples/kept.arrow",
        examples_of(chatml, strategies, 2, "instruction_kept"),
        Example,
    )
    dataset_of(tmp_path, plan_of(chatml, [kept], prompts="instruction_kept"), strategies)
    manifest = checked_manifest(tmp_path / "dataset")
    assert (manifest.prompts, manifest.proof) == ("instruction_kept", None)
    assert "ablation" in (tmp_path / "dataset" / "README.md").read_text()


def test_a_manifest_of_another_version_or_with_a_path_outside_is_refused(
    tmp_path: Path, chatml: Chat, strategies: Strategies
) -> None:
    build(tmp_path, chatml, strategies)
    path = tmp_path / "dataset" / "manifest.json"
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps({**manifest, "version": 99}))
    with pytest.raises(ValueError, match="version 99"):
        checked_manifest(tmp_path / "dataset")
    manifest["files"][0]["path"] = "../examples/0.arrow"
    path.write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match="leads out"):
        checked_manifest(tmp_path / "dataset")


def test_a_damaged_unit_of_examples_never_becomes_a_dataset(
    tmp_path: Path, chatml: Chat, strategies: Strategies
) -> None:
    entry = write_records(tmp_path, "examples/0.arrow", examples_of(chatml, strategies, 2), Example)
    (tmp_path / entry.path).write_bytes(b"")
    with pytest.raises(ValueError, match="0 bytes"):
        dataset_of(tmp_path, plan_of(chatml, [entry]), strategies)
    assert not (tmp_path / "dataset" / "manifest.json").exists()
