from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.pairs.settings import (
    CONFIG,
    FULL,
    NEEDED,
    SMALL,
    Sizes,
    check_directories,
    engine_settings,
    row_settings,
    scored_settings,
    size_settings,
    task_settings,
)
from orca2_gen.config.load import load_config

SETS = ("sat-en", "lsat-ar")


def write_published(folder: Path, num_rows: int = 12) -> Path:
    """A folder with small files in the formats and under the names of the published ones."""
    folder.mkdir(parents=True, exist_ok=True)
    gsm8k = [{"question": f"What is {n} + {n}?", "answer": f"#### {2 * n}"} for n in range(99)]
    aqua = [
        {"question": f"Which is {n}?", "options": [f"A){n}", f"B){n + 1}"], "rationale": "."}
        | {"correct": "A"}
        for n in range(99)
    ]
    agieval = [
        {"passage": f"Shed {n // 3}.", "question": f"Which is {n}?", "label": "A"}
        | {"options": [f"(A){n}", f"(B){n + 1}"]}
        for n in range(99)
    ]
    rows = dict(zip(NEEDED, (gsm8k, [r | {"question": f"Add {r}"} for r in gsm8k]), strict=False))
    rows |= {"aqua_dev.jsonl": aqua}
    rows |= {f"agieval_{name}.jsonl": agieval for name in ("aqua-rat", *SETS)}
    for name, found in rows.items():
        lines = (json.dumps(row) + "\n" for row in found[:num_rows])
        (folder / name).write_text("".join(lines))
    return folder


@pytest.mark.parametrize("sizes", [SMALL, FULL])
@pytest.mark.parametrize("on_gpu", [False, True])
def test_the_settings_make_a_config_that_holds_out_every_set_of_agieval(
    tmp_path: Path, sizes: Sizes, on_gpu: bool
) -> None:
    data = write_published(tmp_path / "data")
    (model := tmp_path / "model").mkdir()
    settings = [
        f"student.model={model}",
        f"teacher.model={model}",
        f"run_dir={tmp_path / 'run'}",
        *size_settings(sizes),
        *task_settings(data, SETS),
        *engine_settings(on_gpu=on_gpu, kv_cache_bytes=1 << 28, bind=None),
        *row_settings(sizes, 0),
    ]
    config = load_config(CONFIG, settings)
    trained, held_out = config.tasks, config.evaluation.tasks
    assert [t.name for t in trained] == ["gsm8k", "aqua"]
    assert [t.name for t in held_out] == ["gsm8k", "aqua", *SETS]
    assert not any("agieval" in t.path for t in trained)
    assert {t.rows_per_task for t in trained} == {sizes.rows}
    assert {t.rows_per_task for t in held_out} == {sizes.held_out}
    assert not {t.path for t in trained} & {t.path for t in held_out}
    assert config.training.seq_len == sizes.seq_len
    assert (config.student.engine, config.teacher.engine) == ("vllm", "vllm")
    scored = load_config(CONFIG, [*settings, *scored_settings(data, SETS, sizes)])
    assert [t.name for t in scored.tasks] == list(SETS) and not scored.evaluation.tasks
    assert {t.rows_per_task for t in scored.tasks} == {sizes.scored}


@given(st.integers(0, 5000), st.integers(1, 20))
def test_no_example_is_longer_than_a_row_and_a_step_keeps_its_tokens(
    longest: int, rows: int
) -> None:
    sizes = dataclasses.replace(SMALL, rows_per_step=rows)
    found = dict(setting.split("=") for setting in row_settings(sizes, longest))
    seq_len, per_step = (int(found[f"training.{key}"]) for key in ("seq_len", "rows_per_step"))
    assert seq_len >= max(longest, sizes.seq_len)
    assert per_step >= 1
    if per_step > 1:
        assert seq_len * per_step <= sizes.seq_len * rows
    if longest <= sizes.seq_len:
        assert (seq_len, per_step) == (sizes.seq_len, rows)


def test_what_is_missing_is_named_by_its_option(tmp_path: Path) -> None:
    data, there, absent = write_published(tmp_path / "data"), tmp_path, tmp_path / "absent"
    check_directories(there, there, data, SETS)
    for option, directories in (
        ("--student", (absent, there, data)),
        ("--teacher", (there, absent, data)),
        ("--data", (there, there, absent)),
    ):
        with pytest.raises(ValueError, match=f"^{option}: no directory at .*absent"):
            check_directories(*directories, SETS)
    for name in (*NEEDED, "agieval_lsat-ar.jsonl"):
        (data / name).rename(tmp_path / "elsewhere")
        with pytest.raises(ValueError, match=f"^--data: no {name}"):
            check_directories(there, there, data, SETS)
        (tmp_path / "elsewhere").rename(data / name)


@pytest.mark.parametrize("sets", [("sat-en", "sat-en"), ("aqua-rat", "sat-en")])
def test_a_set_is_neither_taken_twice_nor_trained_on_where_it_is_held_out(
    tmp_path: Path, sets: tuple[str, str]
) -> None:
    with pytest.raises(ValueError, match=r"^--agieval: "):
        check_directories(tmp_path, tmp_path, write_published(tmp_path / "data"), sets)
