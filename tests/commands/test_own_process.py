from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent

import psutil
import pytest

from orca2_gen.commands import own_process
from orca2_gen.commands.own_process import answers_of
from orca2_gen.run_directory.digests import ChangedInput


@pytest.fixture(autouse=True)
def without_transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "transformers", raising=False)


def numbers(count: int) -> Iterator[int]:
    yield from range(count)


def process_id() -> Iterator[int]:
    yield os.getpid()


def refused(text: str) -> Iterator[int]:
    yield 1
    raise ChangedInput(text)


class UnsendableError(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


def broken() -> Iterator[int]:
    yield 1
    raise UnsendableError(1, 2)


class OddMistakeError(ValueError):
    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


def mistaken() -> Iterator[int]:
    yield from ()
    raise OddMistakeError(1, 2)


def defective() -> Iterator[int]:
    yield from ()
    raise KeyError("a defect")


def killed() -> Iterator[int]:
    yield 1
    os.kill(os.getpid(), 9)


def endless() -> Iterator[int]:
    yield os.getpid()
    time.sleep(600)


def test_every_answer_arrives_in_order_from_a_process_that_is_gone_afterwards() -> None:
    assert list(answers_of(numbers, 3)) == [0, 1, 2]
    [pid] = answers_of(process_id)
    assert pid != os.getpid() and not psutil.pid_exists(pid)


def test_a_process_that_holds_transformers_answers_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", own_process)
    assert list(answers_of(process_id)) == [os.getpid()]


def test_an_error_keeps_its_class_and_text_and_comes_behind_what_was_answered() -> None:
    answers = answers_of(refused, "tokenizer.json has changed")
    assert next(answers) == 1
    with pytest.raises(ChangedInput, match=r"^tokenizer.json has changed$"):
        next(answers)


@pytest.mark.parametrize("function", [defective, broken])
def test_a_defect_brings_its_traceback(function: Callable[[], Iterator[int]]) -> None:
    with pytest.raises(RuntimeError, match=rf"Traceback[^$]*in {function.__name__}"):
        list(answers_of(function))


def test_a_mistake_of_any_class_stays_a_mistake_of_the_users() -> None:
    with pytest.raises(ValueError, match=r"^1 and 2$") as raised:
        list(answers_of(mistaken))
    assert type(raised.value) is ValueError


def test_a_process_that_is_killed_is_told_with_its_exit_code() -> None:
    with pytest.raises(RuntimeError, match=r"exit code -9.*run the same command again"):
        list(answers_of(killed))


def test_a_process_ends_when_nobody_asks_further() -> None:
    answers = answers_of(endless)
    pid = next(answers)
    assert psutil.pid_exists(pid)
    answers.close()  # type: ignore[attr-defined]
    assert not psutil.pid_exists(pid)


def test_a_process_ends_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    program = tmp_path / "parent.py"
    program.write_text(
        dedent("""
        import os
        from orca2_gen.commands.own_process import answers_of
        from tests.commands.test_own_process import endless

        if __name__ == "__main__":
            for pid in answers_of(endless):
                print(pid, flush=True)
        """)
    )
    paths = os.pathsep.join(path for path in sys.path if path)
    parent = subprocess.Popen(
        [sys.executable, program],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": paths},
    )
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.wait()
    child.wait(timeout=60)
