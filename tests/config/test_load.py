from __future__ import annotations

import json
import os
import re
import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from orca2_gen.config.load import load_config, resolved
from orca2_gen.config.schema import Config
from orca2_gen.provenance.inputs import read_inputs
from tests.conftest import Write, with_long_context

CONFIGS = sorted((Path(__file__).parents[2] / "ray_jobs" / "configs").glob("*.toml"))


def stand_ins(file: Path, folder: Path) -> list[str]:
    """Overrides that put something there for every path that a shipped config names."""
    raw = tomllib.loads(file.read_text())
    task, model = folder / "task.jsonl", folder / "model"
    task.touch()
    model.mkdir()
    found = [f"tasks.{n}.path={task}" for n in range(len(raw["tasks"]))]
    found += [
        f"evaluation.tasks.{n}.path={task}"
        for n in range(len(raw.get("evaluation", {}).get("tasks", [])))
    ]
    for name in ("student", "teacher"):
        found.append(
            f"{name}.{'tokenizer' if raw[name].get('engine') == 'scripted' else 'model'}={model}"
        )
    if "model" in raw.get("training", {}):
        found.append(f"training.model={model}")
    return found


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.name)
def test_every_shipped_config_loads(file: Path, tmp_path: Path) -> None:
    assert load_config(file, stand_ins(file, tmp_path)).run_dir


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.name)
def test_what_config_json_records_loads_again_as_the_same_config(
    file: Path, tmp_path: Path
) -> None:
    config = load_config(file, stand_ins(file, tmp_path))
    assert Config.model_validate(json.loads(json.dumps(resolved(config)))) == config


Break = Callable[[str], str]

MISTAKES: dict[str, tuple[Break, list[str]]] = {
    "unknown key": (
        lambda text: text.replace("block_size", "blok_size"),
        ["selection.blok_size", "spelling"],
    ),
    "unknown section": (lambda text: text + "\n[trainig]\nx = 1\n", ["trainig"]),
    "unknown key of an engine": (
        lambda text: text.replace("[teacher]", "[teacher]\ngpus = 3"),
        ["teacher.gpus"],
    ),
    "wrong type": (
        lambda text: text.replace("block_size = 4", 'block_size = "many"'),
        ["selection.block_size", "many"],
    ),
    "out of range": (
        lambda text: text.replace("block_size = 4", "block_size = 0"),
        ["selection.block_size", "0"],
    ),
    "missing key": (lambda text: text.replace("run_dir", "# run_dir"), ["run_dir", "missing"]),
    "missing section": (lambda text: text.replace("[teacher]", "[student.x]"), ["student.x"]),
    "no task": (
        lambda text: text.replace('"sums.jsonl"', '"nosuch.jsonl"'),
        ["tasks.0.path", "nosuch.jsonl", "--set"],
    ),
    "same task twice": (
        lambda text: text.replace('name = "letters"', 'name = "sums"'),
        ["tasks.0.name and tasks.1.name are 'sums' and 'sums'", "differ"],
    ),
    "tasks is no list": (
        lambda text: (
            "tasks = 5\n"
            + text.replace("[[tasks]]", "[other]", 1).replace("[[tasks]]", "[another]")
        ),
        ["tasks"],
    ),
    "a task is no table": (
        lambda text: (
            "tasks = [5]\n"
            + text.replace("[[tasks]]", "[other]", 1).replace("[[tasks]]", "[another]")
        ),
        ["tasks"],
    ),
    "unknown engine": (lambda text: text.replace('"scripted"', '"openai"'), ["student", "openai"]),
    "an engine is no table": (
        lambda text: text.replace("[student]", "student = 3\n[other]"),
        ["tasks.1.student"],
    ),
    "bad policy": (
        lambda text: text.replace("block_size = 4", 'policy = "best"'),
        ["policy", "student_best", "fixed:STRATEGY"],
    ),
    "bad fixed policy": (
        lambda text: text.replace("block_size = 4", 'policy = "fixed:cot"'),
        ["selection.policy", "'cot'", "step_by_step"],
    ),
    "bad none_solved": (
        lambda text: text.replace("block_size = 4", 'none_solved = "cot"'),
        ["none_solved", "step_by_step"],
    ),
    "a second attempt with fewer tokens": (
        lambda text: text + "\n[scoring]\nmax_tokens = 100\nretry_max_tokens = 99\n",
        ["scoring", "retry_max_tokens is 99", "100"],
    ),
    "not TOML": (lambda text: text + "\n[", ["is not TOML", "the last: expected a name"]),
    "not text": (lambda text: text + "\udcff", ["is not TOML"]),
}


def mistaken(file: Path, mistake: str) -> list[str]:
    change, expected = MISTAKES[mistake]
    body = change(file.read_text())
    file.write_bytes(body.encode(errors="surrogateescape"))
    return expected


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_that_names_the_key(write_config: Write, mistake: str) -> None:
    file = write_config()
    expected = mistaken(file, mistake)
    with pytest.raises(ValueError) as caught:
        read_inputs(load_config(file))
    assert not isinstance(caught.value, ValidationError)
    assert "\n" not in str(caught.value)
    assert all(word in str(caught.value) for word in expected), str(caught.value)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("selection", ["--set 'selection'", "key=value"]),
        ("=3", ["key=value"]),
        ("selection.block_size=many", ["selection.block_size", "many"]),
        ("selection.blok_size=3", ["selection.blok_size"]),
        ("tasks.7.path=x", ["tasks.7.path", "'7'"]),
        ("tasks.one.path=x", ["tasks.one.path", "'one'"]),
        ("run_dir.x=3", ["run_dir.x"]),
        ("student.tokenizer=/no/such/model", ["student.tokenizer", "/no/such/model", "--set"]),
        ("strategies=/no/such.toml", ["strategies", "/no/such.toml"]),
        ("training.model=/no/such/model", ["training.model", "/no/such/model"]),
        ("run_dir=", ["run_dir"]),
    ],
)
def test_a_bad_override_is_one_line_that_names_the_key(
    write_config: Write, override: str, expected: list[str]
) -> None:
    with pytest.raises(ValueError) as caught:
        load_config(write_config(), [override])
    assert "\n" not in str(caught.value)
    assert all(word in str(caught.value) for word in expected), str(caught.value)


def test_overrides_take_toml_values_plain_words_and_list_indices(
    write_config: Write, tmp_path: Path
) -> None:
    other = tmp_path / "other.jsonl"
    other.touch()
    sets = [
        "run_seed=7",
        "selection.policy=random",
        f"tasks.1.path={other}",
        "student.accuracy.step_by_step=0.25",
    ]
    config = load_config(write_config(), sets)
    assert (config.run_seed, config.selection.policy, config.tasks[1].path) == (
        7,
        "random",
        str(other),
    )
    assert config.student.model_dump()["accuracy"]["step_by_step"] == 0.25


def test_paths_are_taken_from_the_config_files_place(write_config: Write, tmp_path: Path) -> None:
    config = load_config(write_config())
    assert [task.path for task in config.tasks] == [
        str(tmp_path / "sums.jsonl"),
        str(tmp_path / "letters.jsonl"),
    ]


def test_a_policy_needs_a_strategy_that_the_strategies_file_holds(
    write_config: Write, tmp_path: Path
) -> None:
    own = tmp_path / "own.toml"
    own.write_text(
        'cautious_message = "Be careful."\nanswer_sentence = true\n'
        '[[strategy]]\nname = "step_by_step"\ninstruction = "Think step by step."\n'
    )
    file = write_config()
    text = file.read_text().replace(", recall_reason_generate = 0.9", "")
    file.write_text(re.sub(r"direct_answer = 0.\d, ", "", text))
    with pytest.raises(ValueError, match=r"none_solved.*direct_answer.*step_by_step"):
        read_inputs(load_config(file, [f"strategies={own}"]))
    with pytest.raises(ValueError, match=r"policy.*extract_generate.*step_by_step"):
        read_inputs(
            load_config(
                file,
                [
                    f"strategies={own}",
                    "selection.none_solved=step_by_step",
                    "selection.policy=fixed:extract_generate",
                ],
            )
        )
    read_inputs(load_config(file, [f"strategies={own}", "selection.none_solved=step_by_step"]))


def test_a_config_is_frozen(write_config: Write) -> None:
    with pytest.raises(ValidationError):
        load_config(write_config()).run_seed = 3  # type: ignore[misc]


def test_a_run_in_a_path_with_spaces_and_letters_of_any_script_loads(
    write_config: Write, chatml_dir: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "r\u00e9sum\u00e9 \u6f22"
    model = shutil.copytree(chatml_dir, folder / "model")
    config = load_config(write_config(folder), [f"student.tokenizer={model}"])
    assert config.run_dir == str(folder / "run")


def test_paths_given_by_set_are_absolute_from_where_one_stands(
    write_config: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_config()
    monkeypatch.chdir(tmp_path)
    config = load_config(file, ["tasks.0.path=sums.jsonl"])
    assert config.tasks[0].path == str(tmp_path / "sums.jsonl")


def test_a_floor_above_the_replicas_is_refused(write_config: Write) -> None:
    with pytest.raises(ValueError, match=r"min_replicas is 2 and student.replicas is 1"):
        load_config(write_config(), ["dispatch.min_replicas=2"])


def open_config(write_config: Write, judge: str) -> Path:
    """A config with an open task, the microworld's models, and this one for a judge."""
    models = Path(__file__).parents[2] / "orca2_gen" / "microworld"
    file = write_config(sections=f'[judge]\nmodel = "{judge}"\n' if judge else "")
    text = file.read_text()
    for name in ("student", "teacher"):
        start = text.index(f"[{name}]")
        end = text.index("[", start + 1)
        text = text[:start] + f'[{name}]\nmodel = "{models / name}"\n' + text[end:]
    file.write_text(text.replace('answer_type = "numeric"', 'answer_type = "open"'))
    return file


def test_an_open_task_needs_a_judge_exactly_where_it_is_scored(write_config: Write) -> None:
    file = open_config(write_config, "")
    with pytest.raises(ValueError, match=r"task 'sums' is open.*student_best.*\[judge\]"):
        load_config(file)
    assert load_config(file, ["selection.policy=random"]).needed_judge is None


def test_a_judge_is_never_the_model_that_is_scored(write_config: Write, tmp_path: Path) -> None:
    models = Path(__file__).parents[2] / "orca2_gen" / "microworld"
    student = with_long_context("student", tmp_path / "student")
    teacher = with_long_context("teacher", tmp_path / "teacher")
    file = open_config(write_config, str(teacher))
    text = file.read_text().replace(str(models / "student"), str(student))
    file.write_text(text.replace(str(models / "teacher"), str(teacher)))
    assert load_config(file).needed_judge is not None
    with pytest.raises(ValueError, match="is the teacher's model, whose answers it would judge"):
        read_inputs(load_config(file, ["selection.policy=teacher_best"]))
    link, copy = tmp_path / "link", tmp_path / "copy"
    link.symlink_to(student)
    shutil.copytree(student, copy)
    for place in (student, link, copy):
        with pytest.raises(ValueError, match=r"judge.model: .* is the student's model"):
            read_inputs(load_config(file, [f"judge.model={place}"]))
        assert load_config(file, [f"judge.model={place}", "selection.policy=teacher_best"])


def test_a_judge_that_nothing_needs_may_be_absent(write_config: Write, tmp_path: Path) -> None:
    file = write_config(sections='[judge]\nmodel = "nowhere"\n')
    config = load_config(file)
    assert config.needed_judge is None and config.judge is not None
    with pytest.raises(ValueError, match=r"judge.model: no directory at"):
        load_config(file, ["tasks.0.answer_type=open"])


def test_open_tasks_are_refused_in_evaluation(write_config: Write, tmp_path: Path) -> None:
    tasks = (
        '[[evaluation.tasks]]\nname = "whys"\nformat = "jsonl"\npath = "sums.jsonl"\n'
        'answer_type = "open"\n'
    )
    with pytest.raises(ValueError, match=r"evaluation.tasks: 'whys' is open"):
        load_config(write_config(sections=tasks))


def test_a_judge_with_fewer_replicas_than_the_floor_is_refused(
    write_config: Write, chatml_dir: Path
) -> None:
    judge = f'[judge]\nengine = "scripted"\ntokenizer = "{chatml_dir}"\n'
    sets = ["dispatch.min_replicas=2", "student.replicas=2", "teacher.replicas=2"]
    file = write_config(sections=judge)
    assert load_config(file, sets).needed_judge is None
    with pytest.raises(ValueError, match=r"min_replicas is 2 and judge.replicas is 1"):
        load_config(file, [*sets, "tasks.0.answer_type=open"])


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero"), Path.mkdir])
def test_a_config_that_is_no_regular_file_is_one_line(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    make(tmp_path / "run.toml")
    with pytest.raises(ValueError, match=r"run.toml is .*; expected a regular file"):
        load_config(tmp_path / "run.toml")


def test_a_config_of_any_size_is_not_read_whole(tmp_path: Path) -> None:
    with open(tmp_path / "run.toml", "wb") as file:
        file.truncate(200 << 30)
    with pytest.raises(ValueError, match=r"run.toml has .*expected at most"):
        load_config(tmp_path / "run.toml")
