from __future__ import annotations

import dataclasses
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca2_gen.doctor.gpus import Gpu
from orca2_gen.draft.models import FoundModel
from orca2_gen.draft.tasks import FoundTask
from orca2_gen.draft.text import config_text, engine_shape

GB = 1 << 30


def gpus(number: int, gigabytes: int = 80) -> list[Gpu]:
    return [Gpu(name="H100", driver="580", total_mb=gigabytes * 1024, used_mb=0)] * number


def model(name: str, gigabytes: float, positions: int | None = 4096) -> FoundModel:
    return FoundModel(
        directory=Path("/models") / name,
        num_bytes=round(gigabytes * GB),
        num_positions=positions,
        has_template=True,
    )


def task(name: str, *, is_held_out: bool = False, reason: str = "") -> FoundTask:
    return FoundTask(
        name=name,
        path=Path(f"/data/{name}.jsonl"),
        format="jsonl",
        is_held_out=is_held_out,
        num_problems=9,
        num_rows=10,
        reason=reason,
    )


def parsed(*tasks: FoundTask, on: list[Gpu], student: FoundModel | None = None) -> dict[str, Any]:
    text = config_text(
        "runs/first", student or model("s", 26), model("t", 138), tasks, on, Path("/work")
    )
    return tomllib.loads(text)


def test_engines_fill_the_gpus_of_a_machine() -> None:
    found = parsed(task("a"), on=gpus(8))
    assert (found["student"]["tensor_parallel_size"], found["student"]["replicas"]) == (1, 8)
    assert (found["teacher"]["tensor_parallel_size"], found["teacher"]["replicas"]) == (4, 2)


@given(gigabytes=st.floats(0.1, 2000), number=st.integers(1, 16), memory=st.integers(8, 192))
def test_an_engine_takes_the_fewest_gpus_that_hold_its_weights(
    gigabytes: float, number: int, memory: int
) -> None:
    ranks, replicas = engine_shape(round(gigabytes * GB), gpus(number, memory))
    assert 1 <= ranks * replicas <= number and ranks & (ranks - 1) == 0
    room = 0.92 * 0.6 * memory
    assert ranks == 1 or gigabytes > room * (ranks // 2)
    assert gigabytes <= room * ranks * (1 + 1e-6) or 2 * ranks > number


@pytest.mark.parametrize(("heads", "ranks"), [((40, 10), 2), ((64, 8), 8), ((71, 1), 1), ((), 8)])
def test_the_ranks_of_an_engine_divide_the_heads(heads: tuple[int, ...], ranks: int) -> None:
    assert engine_shape(400 * GB, gpus(8), heads)[0] == ranks


def test_a_gpu_that_does_not_tell_its_memory_gets_an_engine_of_its_own() -> None:
    assert engine_shape(400 * GB, gpus(4, 0)) == (1, 4)


@pytest.mark.parametrize("name", ["\U0001f600", "a\x7fb", 'a"b', "a\\b", "\u00e9"])
def test_a_path_of_any_letters_is_read_again_as_it_is(name: str) -> None:
    found = parsed(dataclasses.replace(task("a"), path=Path("/data") / name), on=[])
    assert found["tasks"][0]["path"] == f"/data/{name}"


def test_a_context_is_no_longer_than_the_models_have() -> None:
    found = parsed(task("a"), on=gpus(1), student=model("s", 1, positions=2048))
    assert found["student"]["max_model_len"] == found["training"]["seq_len"] == 2048
    assert found["scoring"]["max_tokens"] == 512


def test_held_out_tasks_are_for_evaluation() -> None:
    found = parsed(task("a"), task("a", is_held_out=True), on=[])
    assert [each["name"] for each in found["tasks"]] == ["a"]
    assert [each["split"] for each in found["evaluation"]["tasks"]] == ["test"]


@pytest.mark.parametrize("reason", ['"""', "a\nb = 1", "\x1b[31m", "]]\n[x]\ny=1"])
def test_text_of_a_file_stays_in_its_comment(reason: str) -> None:
    assert parsed(task("a", reason=reason), on=[]).keys() == parsed(task("a"), on=[]).keys()


def test_a_base_model_is_told_beside_its_section() -> None:
    base = FoundModel(directory=Path("/m/b"), num_bytes=1, num_positions=99, has_template=False)
    text = config_text("r", base, base, [task("a")], [], Path("/"))
    assert text.count("`orca2 prepare` makes a student of a base model") == 2
    assert 'model = "m/b"' in text
