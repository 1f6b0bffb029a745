"""Nothing hangs: files that never end, in every place from which a command reads."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from orca2_gen.exit_codes import FAILED, USAGE
from tests.conftest import Call
from tests.faults.test_files import LISTED, TOKENIZER, run_dir
from train.examples import load_examples

__all__ = ["run_dir"]  # a fixture

SECONDS = 10
"""Seconds in which a command must have ended, on a busy machine; each takes less than one."""
NEVER_ENDING: dict[str, Callable[[Path], object]] = {
    "fifo": os.mkfifo,
    "zero": lambda path: path.symlink_to("/dev/zero"),
    "loop": lambda path: path.symlink_to(path.name),
    "sparse": lambda path: os.truncate(os.open(path, os.O_CREAT | os.O_WRONLY), 200 << 30),
}
OF_THE_RUN = (
    "config.json",
    "ledger.jsonl",
    "dataset/manifest.json",
    "dataset/state.json",
    "dataset/dataset_info.json",
    *LISTED,
)
"""Files that `verify` must miss if they cannot be read."""
OTHERS = (
    "ledger.tip.json",
    "driver.lock",
    "dataset/README.md",
    "../run.toml",
    "../strategies.toml",
    "../sums.jsonl",
    "../held_out.jsonl",
    "../tokenizer/tokenizer.json",
    "../tokenizer/tokenizer_config.json",
    "../tokenizer/chat_template.jinja",
    "../tokenizer/generation_config.json",
)


class Hangs(BaseException):
    """Raised where a command hangs; nothing of ours catches it."""


@contextmanager
def within(seconds: int) -> Iterator[None]:
    def end(*_: object) -> None:
        raise Hangs(f"no end after {seconds} s")

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def put(path: Path, kind: str) -> None:
    path.unlink(missing_ok=True)
    NEVER_ENDING[kind](path)


def refused_run(run_dir: Path) -> tuple[object, ...]:
    """The words of a run that is refused before it starts Ray, but after all that it reads."""
    config = "../run.toml" if (run_dir / "../run.toml").is_fifo() else "config.json"
    sets = "--set", f"run_dir={run_dir}", "--set", "rationales.max_attempts=7"
    return "run", run_dir / config, *sets


@pytest.mark.parametrize("place", [*OF_THE_RUN, *OTHERS])
def test_a_fifo_in_any_place_hangs_no_command(run_dir: Path, orca2: Call, place: str) -> None:
    put(run_dir / place, "fifo")
    name = place.rpartition("/")[2]
    for words in (("verify", run_dir), ("status", run_dir), refused_run(run_dir)):
        with within(SECONDS):
            code, out, err = orca2(*words)
        printed = (out + err).replace("\n", "")
        assert code in (0, FAILED, USAGE) and "Traceback" not in printed, printed
        if words[0] == "verify" and place in OF_THE_RUN:
            assert code != 0 and name in printed, printed


@pytest.mark.parametrize("kind", sorted(NEVER_ENDING))
@pytest.mark.parametrize("place", ["ledger.jsonl", "dataset/manifest.json", LISTED[0]])
def test_verify_names_what_never_ends(run_dir: Path, orca2: Call, place: str, kind: str) -> None:
    put(run_dir / place, kind)
    with within(SECONDS):
        code, out, err = orca2("verify", run_dir)
    printed = (out + err).replace("\n", "")
    assert code != 0 and place.rpartition("/")[2] in printed and "Traceback" not in printed


@pytest.mark.parametrize("kind", sorted(NEVER_ENDING))
@pytest.mark.parametrize("is_alone", [True, False], ids=["the task", "one of its files"])
def test_a_task_that_never_ends_is_refused_by_its_name(
    tmp_path: Path, orca2: Call, kind: str, is_alone: bool
) -> None:
    folder = tmp_path / "rows"
    folder.mkdir()
    (folder / "a.jsonl").write_text('{"question": "1 + 1?", "answer": "2"}\n')
    put(folder / "b.jsonl", kind)
    with within(SECONDS):
        code, out, err = orca2("tasks", folder / "b.jsonl" if is_alone else folder)
    printed = out + err
    assert code != 0 and "b.jsonl" in printed.replace("\n", "") and "Traceback" not in printed


@pytest.mark.parametrize("kind", sorted(NEVER_ENDING))
@pytest.mark.parametrize(
    "place", ["manifest.json", "state.json", "dataset_info.json", "data-00000-of-00001.arrow"]
)
def test_a_trainer_refuses_what_never_ends(run_dir: Path, place: str, kind: str) -> None:
    put(run_dir / "dataset" / place, kind)
    with within(SECONDS), pytest.raises((ValueError, OSError), match=place):
        load_examples(run_dir / "dataset", prompts="erased", model_dir=TOKENIZER)
