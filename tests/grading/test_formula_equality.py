from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from orca2_gen.grading import formula_equality
from orca2_gen.grading.grade import grade
from orca2_gen.records import Problem

TOWER = "9^{9^{9^{9}}}"


@pytest.fixture(autouse=True, scope="module")
def no_child_is_left() -> Iterator[None]:
    yield  # not after every test: a start takes a second
    formula_equality.close()
    assert children() == []


def children(pid: int | None = None) -> list[psutil.Process]:
    """The mathematics processes below a process, ours by default."""
    found = []
    for process in psutil.Process(pid).children(recursive=True):
        try:
            if "orca2_gen.grading.formula_equality" in process.cmdline():
                found.append(process)
        except psutil.Error:  # it ended meanwhile
            continue
    return found


def wait_for_children(num: int, pid: int | None = None) -> list[psutil.Process]:
    deadline = time.monotonic() + 60
    while len(found := children(pid)) != num:
        assert time.monotonic() < deadline, f"{len(found)} children, expected {num}"
        time.sleep(0.02)
    return found


def outcome(target: str, text: str) -> str:
    problem = Problem(
        problem_id="t/test/0", task="t", question="?", target=target, answer_type="mathematics"
    )
    return grade(problem, text, "stop").outcome


def test_an_item_that_never_ends_is_ungraded_in_time_and_the_next_is_graded() -> None:
    assert formula_equality.compare(("1/2",), "x/(2x)") == "correct"
    started = time.monotonic()
    assert formula_equality.compare(("1",), "(10!)!") == "ungraded"
    assert (
        time.monotonic() - started < formula_equality.MOST_SECONDS + 10
    )  # the machine may be busy
    assert formula_equality.compare(("1/2",), "x/(3x)") == "incorrect"
    assert formula_equality.compare(("x^2-1", "1/2"), "0.5") == "correct"


def test_waiting_for_a_child_does_not_count_as_grading() -> None:
    with ThreadPoolExecutor(8) as threads:
        towers = [threads.submit(formula_equality.compare, ("1",), TOWER) for _ in range(2)]
        right = [
            threads.submit(formula_equality.compare, (f"{n}x^2",), f"{n}x*x") for n in range(2, 12)
        ]
        assert [future.result() for future in towers] == ["ungraded"] * 2
        assert [future.result() for future in right] == ["correct"] * 10
    assert len(children()) <= formula_equality.USUAL_CHILDREN


def test_a_child_killed_at_rest_costs_no_verdict() -> None:
    assert formula_equality.compare(("1/2",), "x/(2x)") == "correct"
    for child in children():
        child.kill()
    assert formula_equality.compare(("1/2",), "y/(2y)") == "correct"


def test_a_child_killed_over_an_item_ends_without_a_hang() -> None:
    formula_equality.close()
    assert formula_equality.compare(("1/2",), "x/(2x)") == "correct"
    [child] = wait_for_children(1)
    threading.Timer(0.3, child.kill).start()
    assert formula_equality.compare(("1",), TOWER) == "ungraded"
    assert formula_equality.compare(("1/2",), "y/(2y)") == "correct"


def test_a_child_that_is_stopped_costs_its_item_and_is_replaced() -> None:
    formula_equality.close()
    assert formula_equality.compare(("1/2",), "x/(2x)") == "correct"
    [child] = wait_for_children(1)
    child.suspend()
    started = time.monotonic()
    assert formula_equality.compare(("1/2",), "z/(2z)") == "ungraded"
    assert time.monotonic() - started < formula_equality.MOST_SECONDS + 10
    assert not child.is_running()
    assert formula_equality.compare(("1/2",), "z/(2z)") == "correct"


def test_closing_ends_the_children_and_may_be_repeated() -> None:
    assert formula_equality.compare(("1/2",), "x/(2x)") == "correct"
    formula_equality.close()
    assert children() == []
    formula_equality.close()
    assert formula_equality.compare(("1/2",), "x/(2x)") == "correct"


PARENT = f"""
import sys, threading
from orca2_gen.grading import formula_equality
formula_equality.compare(("1/2",), "x/(2x)")
if sys.argv[1] == "busy":
    threading.Thread(target=formula_equality.compare, args=(("1",), "{TOWER}")).start()
print("ready", flush=True)
threading.Event().wait()
"""


@pytest.mark.parametrize("state", ["idle", "busy"])
def test_no_child_outlives_a_parent_that_was_killed(state: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, state], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"ready\n"
        [child] = wait_for_children(1, parent.pid)
        parent.send_signal(signal.SIGKILL)
    gone, _ = psutil.wait_procs([child], timeout=2 * formula_equality.DEADLINE_SECONDS + 30)
    assert gone == [child]


def test_a_child_sees_nothing_of_our_environment_but_where_modules_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    formula_equality.close()
    monkeypatch.setenv("ORCA2_SECRET", "token")
    assert formula_equality.compare(("1/2",), "x/(2x)") == "correct"
    child = children()[0]
    assert set(child.environ()) == {"PYTHONPATH", "PATH", "LC_ALL"}
    assert child.rlimit(psutil.RLIMIT_AS)[0] == formula_equality.CHILD_BYTES
    assert os.getsid(child.pid) != os.getsid(0)


def test_a_child_that_cannot_start_is_an_error_and_not_a_verdict(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    formula_equality.close()
    monkeypatch.setattr(sys, "executable", "/bin/true")
    for _ in range(formula_equality.MOST_CHILDREN + 1):  # no place is lost by it
        with pytest.raises(RuntimeError, match="did not start"):
            formula_equality.compare(("1/2",), "x/(2x)")


@pytest.mark.parametrize(
    ("target", "text", "expected"),
    [
        ("\\frac{1}{2}", "Answer: $\\dfrac{1}{2}$", "correct"),
        ("\\frac{1}{2}", "Answer: 0.5", "correct"),
        ("2\\sqrt{3}", "Answer: \\(2 \\sqrt{3}\\).", "correct"),
        ("1234", "Answer: 1,235", "incorrect"),
        ("5", "Answer: unknown", "unparsed"),
        ("5", "Answer: " + "x+" * 600 + "1", "ungraded"),
    ],
)
def test_what_is_plain_asks_no_child(target: str, text: str, expected: str) -> None:
    formula_equality.close()
    assert outcome(target, text) == expected
    assert children() == []


def test_the_same_answer_is_asked_once_whatever_its_dress(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def count(golds: tuple[str, ...], answer: str) -> str:
        asked.append(answer)
        return "correct"

    monkeypatch.setattr(formula_equality, "compare", count)
    for text in ("Answer: 7+z^2", "**Answer:** $7+z^2$", "So \\boxed{7+z^2}", "7+z^2"):
        assert outcome("z^2+7", text) == "correct"
    assert len(asked) <= 2  # a bare answer is read by another rule


def test_a_busy_machine_changes_no_verdict() -> None:
    """The deadline counts what the child computes, not what it waits for."""
    formula_equality.close()
    assert formula_equality.compare(("1/2",), "x/(2x)") == "correct"
    [child] = children()
    pause = threading.Timer(0.0, child.suspend)
    pause.start()
    pause.join()
    threading.Timer(3 * formula_equality.DEADLINE_SECONDS, child.resume).start()
    assert formula_equality.compare(("1/2",), "w/(2w)") == "correct"


MORE_CHILDREN = """
import sys
from concurrent.futures import ThreadPoolExecutor
import psutil
from orca2_gen.grading import formula_equality

for num in (3, 1, 4):
    formula_equality.allow_children(num)
with ThreadPoolExecutor(12) as threads:
    towers = [threads.submit(formula_equality.compare, ("1",), sys.argv[1]) for _ in range(12)]
    seen = set()
    while not all(tower.done() for tower in towers):
        seen.add(len(psutil.Process().children()))
assert {tower.result() for tower in towers} == {"ungraded"}
formula_equality.close()
print(max(seen), len(psutil.Process().children()))
"""


def test_a_process_that_may_have_more_children_uses_them_and_no_more() -> None:
    done = subprocess.run(
        [sys.executable, "-c", MORE_CHILDREN, TOWER], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["4", "0"]
