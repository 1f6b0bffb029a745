from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from orca2_gen.config import load_config
from orca2_gen.plan import PREVIOUS, rooms, selection_rule, stage_determinants, stage_keys
from tests.conftest import Write


def keys_of(file: Path, *overrides: str) -> dict[str, str]:
    return stage_keys(stage_determinants(load_config(file, overrides)))


def changed_stages(file: Path, *overrides: str) -> set[str]:
    before, after = keys_of(file), keys_of(file, *overrides)
    return {stage for stage in before if before[stage] != after[stage]}


ALL = {"problems", "scores", "selections", "rationales", "examples"}


@pytest.mark.parametrize(
    ("override", "first"),
    [
        ("rows_per_unit=9", "problems"),
        ("tasks.0.split=validation", "problems"),
        ("student.max_model_len=2048", "problems"),
        ("selection.scored_problems=11", "scores"),
        ("selection.block_size=5", "scores"),
        ("student.accuracy.step_by_step=0.1", "scores"),
        ("selection.indifference=0.1", "selections"),
        ("selection.policy=random", "scores"),
        ("selection.policy=teacher_best", "scores"),
        ("selection.none_solved=step_by_step", "selections"),
        ("rationales.temperature=0.1", "rationales"),
        ("rationales.verify=false", "rationales"),
        ("teacher.accuracy.step_by_step=0.1", "rationales"),
        ("erasure.prompts=instruction_kept", "examples"),
    ],
)
def test_a_change_changes_the_first_stage_it_touches_and_all_after_it(
    write_config: Write, override: str, first: str
) -> None:
    order = ["problems", "scores", "selections", "rationales", "examples"]
    found = changed_stages(write_config(), override) & ALL
    assert found == set(order[order.index(first) :])


@pytest.mark.parametrize(
    "override",
    [
        "student.replicas=3",
        "student.max_num_seqs=7",
        "teacher.replicas=2",
        "run_dir=/elsewhere",
        "dataset.examples_per_shard=7",
        "training.seq_len=64",
        "evaluation.max_tokens=9",
    ],
)
def test_how_and_where_a_run_happens_is_in_no_key_of_its_dataset(
    write_config: Write, override: str
) -> None:
    assert changed_stages(write_config(), override) & ALL == set()


def test_another_place_of_the_same_files_changes_no_key(
    write_config: Write, chatml_dir: Path, tmp_path: Path
) -> None:
    model = shutil.copytree(chatml_dir, tmp_path / "model")
    task = shutil.copy(tmp_path / "sums.jsonl", tmp_path / "moved.jsonl") if write_config() else ""
    sets = [f"student.tokenizer={model}", f"teacher.tokenizer={model}", f"tasks.0.path={task}"]
    assert changed_stages(write_config(), *sets) == set()


def test_a_changed_task_file_changes_every_key(write_config: Write, tmp_path: Path) -> None:
    file = write_config()
    before = keys_of(file)
    with open(tmp_path / "sums.jsonl", "a", encoding="utf-8") as task:
        task.write("\n")
    after = keys_of(file)
    assert {stage for stage in before if before[stage] != after[stage]} == ALL


def test_every_stage_has_its_own_key(write_config: Write) -> None:
    keys = keys_of(write_config())
    assert set(keys) == set(PREVIOUS) and len(set(keys.values())) == len(keys)


def test_the_rule_and_the_rooms_are_the_configs(write_config: Write) -> None:
    config = load_config(write_config(), ["scoring.max_tokens=2000", "teacher.max_model_len=8192"])
    student, teacher = rooms(config)
    assert (student.max_model_len, student.max_tokens) == (4096, 2000)
    assert (teacher.max_model_len, teacher.max_tokens) == (8192, 2000)
    rule = selection_rule(config)
    assert (rule.scored_problems, rule.block_size, rule.needs_scores) == (12, 4, True)
