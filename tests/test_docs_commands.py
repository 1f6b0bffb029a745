"""Every command line that README.md and docs/ show is run here, or by the test that is named here,
or there is a reason why not.

A command line is a line of a fenced block of sh, or the first cell of the table of commands in
docs/runs.md. Words in capitals are the reader's own and stand for files of a small scripted run.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from orca2_gen.cli import cli
from tests.conftest import Call, write_run_config
from tests.test_docs import FENCE, FILES, ROOT

pytestmark = pytest.mark.usefixtures("local_ray")

ELSEWHERE = {
    "orca2 init CONFIG": "tests/commands/test_init.py",
    "orca2 prepare MODEL OUT": "tests/commands/test_preparation.py",
    "orca2 prepare /models/Llama-2-13b-hf /models/llama-2-13b-student": (
        "tests/commands/test_preparation.py"
    ),
    "orca2 run CONFIG --set student.model=/models/llama-2-13b-student": (
        "tests/preparation/test_student.py"
    ),
    "orca2 submit CONFIG": "tests/ray_jobs/test_submit.py",
    "orca2 submit CONFIG --address http://127.0.0.1:8265": "tests/ray_jobs/test_submit.py",
    "orca2 train CONFIG": "tests/train/test_launch.py",
    "orca2 train CONFIG --nproc-per-node 8": "tests/train/test_launch.py",
    "orca2 synthesise CONFIG TOPICS OUT": "tests/ray_jobs/test_synthesis.py",
    "python -m benchmarks.first_light --out DIR": "tests/benchmarks/test_first_light.py",
    "python -m benchmarks.first_light --out DIR --tiny": "tests/benchmarks/test_first_light.py",
    "python -m benchmarks.first_light --out DIR --cache CACHE --only throughput-large swap": (
        "tests/benchmarks/test_first_light.py"
    ),
    "python -m benchmarks.real_models --student qwen2.5-coder-0.5b-instruct --teacher "
    "qwen2.5-coder-1.5b-instruct --data data --scored 8 --rows 8 --held-out 16 --steps 20": (
        "tests/benchmarks/test_real_models.py"
    ),
    "ray start --head --disable-usage-stats": "tests/machines/clusters.py",
    "ray start --address=HEAD:6379": "tests/machines/clusters.py",
}
"""Command line -> the test that runs it with what it needs: ranks, a head, models."""
NOT_RUN = {
    "make demo": "sets up, which is how these tests came to run; `orca2 demo` is the rest of it",
    "orca2 demo": "takes four minutes; tests/faults/test_real_drivers.py runs its config",
    "make test": "is what runs this",
    "make test-all": "runs this, and the slow tests",
    "make lint": "is the other half of what continuous integration runs",
    "export RAY_AUTH_MODE=token": "is a setting",
    "export RAY_worker_niceness=0": "is a setting",
    "(umask 077; ray get-auth-token --generate >/dev/null)": "writes to the home of who tests",
}
"""Command line -> why nothing runs it."""


def shown() -> Iterator[str]:
    """The command lines that the documentation shows."""
    for file in FILES:
        for fence in FENCE.finditer(file.read_text()):
            if fence[0].lstrip().startswith("```sh"):
                lines = re.sub(r"[ ]*\\\n\s*", " ", fence[2]).splitlines()
                yield from filter(None, (re.sub(r"\s+#.*", "", line).strip() for line in lines))
    table = (ROOT / "docs" / "runs.md").read_text().partition("## Commands")[2]
    yield from re.findall(r"^\| `(orca2 [^`]+)` \|", table.partition("\n## ")[0], re.MULTILINE)


SHOWN = list(dict.fromkeys(shown()))
RUN_HERE = [line for line in SHOWN if line not in ELSEWHERE and line not in NOT_RUN]


def test_every_command_is_shown_in_the_table_of_commands() -> None:
    assert {line.split()[1] for line in SHOWN if line.startswith("orca2 ")} == set(cli.commands)


def test_what_is_run_elsewhere_is_shown_and_its_test_names_it() -> None:
    assert set(SHOWN) >= ELSEWHERE.keys() | NOT_RUN.keys()
    for line, file in ELSEWHERE.items():
        words = line.split()
        name = words[2].rpartition(".")[2] if words[0] == "python" else words[1]
        called = rf'"{name}"|documented\("ray {name}|import {name}|benchmarks.{name}|{name}_all\('
        assert re.search(called, (ROOT / file).read_text()), (line, file)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, chatml_dir: Path) -> Path:
    """A directory with a config that reads, teaches, evaluates, and a run of it."""
    folder = tmp_path_factory.mktemp("documented")
    held_out = (
        '{"question": "What is 1 + 1?", "answer": "2"}\n{"question": "And 2 + 2?", "answer": "4"}\n'
    )
    (folder / "held_out.jsonl").write_text(held_out)
    evaluation = (
        '[[evaluation.tasks]]\nname = "held_out"\nformat = "jsonl"\npath = "held_out.jsonl"\n'
        'answer_type = "numeric"\n'
    )
    write_run_config(folder, chatml_dir, sections=evaluation)
    (folder / "gsm8k_train.jsonl").write_text(
        "".join(f'{{"question": "Is it {n}?", "answer": "Yes.\\n#### {n}"}}\n' for n in range(20))
    )
    (folder / "ray_jobs").symlink_to(ROOT / "ray_jobs")
    return folder


OWN = {
    "CONFIG": "run.toml",
    "FILE": "sums.jsonl",
    "RUN": "run",
    "PROBLEM_ID": "sums/train/s1",
}


@pytest.mark.parametrize("line", RUN_HERE)
def test_a_command_that_is_shown_does_what_it_says(
    orca2: Call, folder: Path, monkeypatch: pytest.MonkeyPatch, line: str, tmp_path: Path
) -> None:
    monkeypatch.chdir(folder)
    words = line.replace("[CONFIG]", "CONFIG").replace("=FILE", "=sums.jsonl")
    own = {**OWN, "OUT": str(tmp_path / "out"), "DIR": str(tmp_path)}
    name, *arguments = (own.get(word, word) for word in shlex.split(words)[1:])
    if name == "regrade":
        arguments += ["--set", f"run_dir={tmp_path / 'regraded'}"]
    if name not in ("tasks", "doctor", "plan", "preview", "run", "score"):
        for before in ("run", "evaluate"):  # what the command is about; later calls find it made
            assert orca2(before, "run.toml")[0] == 0
    code, out, err = orca2(name, *arguments)
    # A doctor may find something wrong with the machine that tests.
    assert code in ((0, 1, 3) if name == "doctor" else (0,)), (out, err)
    assert out or err
