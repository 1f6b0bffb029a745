"""The fault matrix names every fault once, with tests that exist and can fail."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

import pytest

from tests.faults.matrix import MATRIX, Fault, summary

TESTS = Path(__file__).parents[1]
NUM_FAULTS = 47
NUMBERED = re.compile(r"test_(\d+)_(?:(?:to|and)_(\d+)_)?")
"""The rows that a test's name begins with: `test_7_...`, `test_3_to_6_...`."""


@functools.cache
def functions(file: str) -> dict[str, ast.FunctionDef]:
    """The tests that pytest collects from a file; of two with one name, the last."""
    tree = ast.parse((TESTS / file).read_text())
    found = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    return {node.name: node for node in found if node.name.startswith("test_")}


def words(node: ast.AST) -> set[str]:
    """The names and attributes in a piece of code."""
    found = {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
    return found | {each.attr for each in ast.walk(node) if isinstance(each, ast.Attribute)}


def can_fail(test: ast.FunctionDef) -> bool:
    """Whether a test asserts anything, itself or by a function called `assert_...`."""
    asserts = any(isinstance(node, ast.Assert) for node in ast.walk(test))
    return asserts or any(word == "raises" or word.startswith("assert_") for word in words(test))


def fault_of(test: str) -> str:
    """What is wrong with a test's name; empty if it is collected, runs and can fail."""
    file, _, name = test.partition("::")
    if not re.fullmatch(r"([a-z_]+/)*test_[a-z0-9_]+\.py", file) or not (TESTS / file).is_file():
        return "no such file"
    if name not in functions(file):
        return "no such test"
    node = functions(file)[name]
    if any({"skip", "xfail"} & words(decorator) for decorator in node.decorator_list):
        return "never runs, or may fail"
    return "" if can_fail(node) else "asserts nothing"


def test_every_number_is_there_once_and_in_order() -> None:
    assert [fault.number for fault in MATRIX] == list(range(1, NUM_FAULTS + 1))


@pytest.mark.parametrize("fault", MATRIX, ids=lambda fault: str(fault.number))
def test_every_fault_has_tests_that_exist_or_a_reason(fault: Fault) -> None:
    assert fault.tests or fault.untested
    assert len(set(fault.tests)) == len(fault.tests)
    assert {test: wrong for test in fault.tests if (wrong := fault_of(test))} == {}


def test_a_test_that_is_named_after_a_fault_stands_in_its_row() -> None:
    found: set[tuple[int, str]] = set()
    for path in TESTS.rglob("test_*.py"):
        file = path.relative_to(TESTS).as_posix()
        for name in functions(file):
            if numbered := NUMBERED.match(name):
                first = int(numbered[1])
                last = int(numbered[2] or first)
                assert 1 <= first <= last <= NUM_FAULTS, name
                found.add((first, f"{file}::{name}"))
    listed = {(fault.number, test) for fault in MATRIX for test in fault.tests}
    assert len(found) > NUM_FAULTS / 2
    assert found - listed == set()


def test_what_is_not_there_is_noticed() -> None:
    assert fault_of("faults/test_absent.py::test_1_x") == "no such file"
    assert fault_of("faults/matrix.py::test_1_x") == "no such file"
    assert fault_of("../setup.py::test_1_x") == "no such file"
    assert fault_of("faults/test_matrix.py::test_absent") == "no such test"
    assert fault_of("faults/test_matrix.py::fault_of") == "no such test"
    nothing = ast.parse("def test_x():\n    run()\n").body[0]
    assert isinstance(nothing, ast.FunctionDef) and not can_fail(nothing)


def test_the_summary_counts_every_fault() -> None:
    first, *reasons = summary()
    tested, reasoned = map(int, re.findall(r"(\d+) (?:rows tested|with a reason)", first)[:2])
    assert tested + reasoned == NUM_FAULTS
    assert len(reasons) == sum(bool(fault.untested) for fault in MATRIX)
