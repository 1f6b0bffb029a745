"""What `plan`, `run`, `score`, `teach`, `train` and `submit` ask before anything starts."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from orca2_gen.commands.preflight import ask_first
from orca2_gen.config.load import load_config, resolved
from tests.conftest import SHORT, Call, Write, with_long_context
from tests.preflight.model_directories import write_published, write_weights
from tests.train.test_model import edited

ROOT = Path(__file__).parents[2]
COMMANDS = ("plan", "run", "score", "teach")


@pytest.fixture
def models(write_config: Write, tmp_path: Path) -> Path:
    """A config file whose student and teacher are copies of the microworld's, beside it."""
    file = write_config()
    for role in ("student", "teacher"):
        with_long_context(role, tmp_path / role)
    body = file.read_text()
    start, end = body.index("[student]"), body.index("[selection]")
    engines = "".join(
        f'[{r}]\nmodel = "{r}"\nmax_model_len = 512\n' for r in ("student", "teacher")
    )
    file.write_text(body[:start] + engines + body[end:])
    return file


def settings() -> list[str]:
    return [word for setting in SHORT if "judging" not in setting for word in ("--set", setting)]


def shards(directory: Path) -> None:
    index = {"weight_map": {"x": "model-00001-of-00002.safetensors"}}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))


def cut(directory: Path) -> None:
    with open(directory / "model.safetensors", "r+b") as file:
        file.truncate(1_000_000)


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a file cut short": (cut, "cut short"),
    "an index of absent files": (shards, "lacks 1 of the 1 files of weights"),
    "a smaller vocabulary": (lambda d: edited(d, vocab_size=1000), "has 195 tokens that the model"),
    "fewer positions": (lambda d: edited(d, max_position_embeddings=511), "at most 511 tokens"),
    "an empty directory": (lambda d: [path.unlink() for path in d.iterdir()], "holds no config"),
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("role", ["student", "teacher"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_model_that_cannot_work_is_exit_code_2_before_anything_is_written(
    orca2: Call, models: Path, command: str, role: str, damage: str
) -> None:
    make, words = DAMAGES[damage]
    make(models.parent / role)
    code, out, err = orca2(command, models, *settings())
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"Error: {role}.") and words in err and str(models.parent / role) in err
    assert not (models.parent / "run").exists()


@pytest.mark.parametrize("command", [*COMMANDS, "train"])
def test_a_student_that_cannot_be_trained_is_exit_code_2_if_training_is_configured(
    orca2: Call, models: Path, command: str
) -> None:
    edited(models.parent / "student", quantization_config={"quant_method": "fp8"})
    with_training = [*settings(), "--set", "training.num_epochs=1"]
    code, out, err = orca2(command, models, *with_training)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("Error: student.model: ") and "its weights are quantized" in err


def test_without_a_training_section_it_is_one_odd_line(
    models: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    edited(models.parent / "student", quantization_config={"quant_method": "fp8"})
    config = load_config(models, SHORT[:4])
    ask_first(config)
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.count("\n") == 1
    assert "it cannot be trained: " in printed.err and "weights are quantized" in printed.err
    # A recorded config names every key, so it does not count as a section that somebody wrote.
    recorded = tmp_path / "recorded.json"
    recorded.write_text(json.dumps(resolved(config)))
    ask_first(load_config(recorded))
    recorded.write_text(json.dumps(resolved(load_config(models, [*SHORT[:4], "training.seed=1"]))))
    with pytest.raises(ValueError, match="its weights are quantized"):
        ask_first(load_config(recorded))


def test_plan_tells_of_every_role_and_the_others_only_what_is_odd(
    models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_weights(models.parent / "teacher" / "adapter_model.safetensors", {"x": (2,)})
    (models.parent / "teacher" / "adapter_config.json").write_text("{}")
    config = load_config(models, SHORT[:4])
    ask_first(config, prints_facts=True)
    lines = capsys.readouterr().out.splitlines()
    student, teacher = models.parent / "student", models.parent / "teacher"
    heads = [f"student.model: {student}", f"teacher.model: {teacher}"]
    heads.append(f"training of student.model: {student}")
    assert [line for line in lines if not line.startswith("  ")] == heads
    odd = "the adapter beside the model (adapter_config.json) is not applied"
    assert lines.count(f"  odd: {odd}") == 1
    assert "  4.00 MB of weights in 1 file (BF16), 2.00 million parameters" in lines
    ask_first(config)
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", f"teacher.model: {teacher}: {odd}\n")


def test_another_model_to_train_must_read_the_students_rows(orca2: Call, models: Path) -> None:
    other = with_long_context("student", models.parent / "other")
    with_other = [*settings(), "--set", f"training.model={other}"]
    ask_first(load_config(models, [*SHORT[:4], f"training.model={other}"]))
    template = other / "chat_template.jinja"
    template.write_text(template.read_text().replace("assistant", "helper"))
    for command in ("run", "train"):
        code, _, err = orca2(command, models, *with_other)
        assert code == 2 and err.count("\n") == 1
        assert f"training.model: {other} has another tokenizer or chat template" in err


def test_training_of_a_rehearsal_is_asked_when_it_begins(
    orca2: Call, write_config: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_config(sections="[training]\nseq_len = 64\n")
    ask_first(load_config(file))
    assert capsys.readouterr().err == ""
    code, _, err = orca2("train", file)
    assert code == 2 and err.startswith("Error: student.tokenizer: ") and err.count("\n") == 1


def test_submit_asks_where_the_files_are_seen(orca2: Call, models: Path) -> None:
    cut(models.parent / "student")
    address = ["--address", "http://127.0.0.1:1"]
    code, _, err = orca2("submit", models, *settings(), *address)
    assert code == 2 and "cut short" in err
    (models.parent / "teacher").rename(models.parent / "elsewhere")
    code, _, err = orca2("submit", models, *settings(), *address)
    assert code == 2 and "no Ray dashboard answers" in err


def test_the_weights_of_a_model_that_is_asked_nothing_may_be_absent(
    models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (models.parent / "student" / "model.safetensors").unlink()
    ask_first(load_config(models, [*SHORT[:4], "selection.policy=teacher_best"]))
    first, second = capsys.readouterr().err.splitlines()
    assert "no .safetensors file" in first and "reads no weights here" in first
    assert "it cannot be trained" in second


def test_published_configs_pass_on_directories_made_of_headers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"question": "1 + 1?", "answer": "#### 2"}\n')
    held_out = tmp_path / "held_out.jsonl"
    held_out.write_text('{"question": "1 + 2?", "answer": "#### 3"}\n')
    places = {
        "student.model": write_published("llama-2-13b", tmp_path / "13b"),
        "teacher.model": write_published("llama-2-70b", tmp_path / "70b"),
        "tasks.0.path": rows,
        "evaluation.tasks.0.path": held_out,
        "run_dir": tmp_path / "run",
    }
    overrides = [f"{key}={value}" for key, value in places.items()]
    config = load_config(ROOT / "ray_jobs" / "configs" / "llama2.toml", overrides)
    began = time.process_time()
    ask_first(config, prints_facts=True)
    assert time.process_time() - began < 10
    printed = capsys.readouterr()
    assert "137.95 GB of weights in 15 files (F16), 68.98 billion parameters" in printed.out
    assert "odd" not in printed.out and printed.err == ""


def test_the_microworld_has_nothing_odd(capsys: pytest.CaptureFixture[str]) -> None:
    ask_first(load_config(ROOT / "ray_jobs" / "configs" / "microworld.toml"))
    assert capsys.readouterr().err == ""
