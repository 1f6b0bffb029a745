"""Walks a problem from its file to its row and says which functions it enters in the workers.

python -m tests.way FORMAT
"""

from __future__ import annotations

import ast
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from orca2_gen.foresight.amounts import Amount

ROOT = Path(__file__).parents[1]
PACKAGES = ("orca2_gen", "ray_jobs")
PROBLEMS: dict[str, dict[str, Any]] = {
    "gsm8k": {"question": "What do 400 pens cost at $3?", "answer": "It is 3 * 400.\n#### 1,200"},
    "jsonl": {"question": "What pulls the tides?", "choices": ["wind", "moon"], "answer": "B"},
}
"""Format -> its problem: a number, and a choice."""
CONFIG = """
run_dir = "run"
tasks = [{{ name = "task", format = "{format}", path = "{folder}/task.jsonl" }}]
[student]
engine = "scripted"
tokenizer = "{root}/orca2_gen/microworld/student"
accuracy = {{ direct_answer = 0.0, step_by_step = 1.0 }}
[teacher]
engine = "scripted"
tokenizer = "{root}/orca2_gen/microworld/teacher"
accuracy = {{ step_by_step = 1.0 }}
"""
Way = dict[str, int]
"""File -> lines of the functions in it that a problem enters."""


def way_of(format: str) -> Way:
    """The way of the format's problem, walked in a process that has nothing loaded or cached."""
    command = [sys.executable, "-m", "tests.way", format]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found: Way = json.loads(done.stdout)
    return found


def walk(format: str) -> Way:
    """The way of the format's problem, walked in this process."""
    from orca2_gen.config.load import load_config
    from ray_jobs import pipeline, run
    from tests.ray_in_process import ray_in_process

    entered: set[CodeType] = set()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "task.jsonl").write_text(json.dumps(PROBLEMS[format]) + "\n")
        file = Path(folder) / "run.toml"
        file.write_text(CONFIG.format(format=format, folder=folder, root=ROOT))
        config = load_config(file, [f"run_dir={folder}/run"])
        with (
            ray_in_process(lambda *work, **keywords: noted(entered, *work, **keywords)),
            run.open_run(config, quiet, say=lambda line: None) as opened,
        ):
            assert pipeline.run_all(opened).rows == 1
    return lines_by_file(entered)


@contextlib.contextmanager
def quiet(stage: str, amount: Amount) -> Iterator[Callable[[Any], None]]:
    yield lambda receipt: None


def noted(entered: set[CodeType], work: Callable[..., Any], *args: Any, **keywords: Any) -> Any:
    """What the work returns; the code that it enters, in threads too, goes into `entered`."""

    def note(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call":
            entered.add(frame.f_code)

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        return work(*args, **keywords)
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


def lines_by_file(entered: set[CodeType]) -> Way:
    """File -> lines of its functions with one of these codes. What stands inside a function is a
    part of it; module and class bodies, and what dataclasses generate, are no functions.
    """
    found: Way = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            starts = {code.co_firstlineno for code in entered if code.co_filename == str(path)}
            lines = sum(
                last - first + 1
                for above, first, last in outermost_functions(ast.parse(path.read_text()))
                if not starts.isdisjoint(range(above, last + 1))
            )
            if lines:
                found[str(path.relative_to(ROOT))] = lines
    return found


def outermost_functions(node: ast.AST) -> Iterator[tuple[int, int, int]]:
    """Yields the lines of each function's first decorator, of its `def`, and of its end."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            above = min([child.lineno, *(each.lineno for each in child.decorator_list)])
            yield above, child.lineno, child.end_lineno or child.lineno
        else:
            yield from outermost_functions(child)


if __name__ == "__main__":
    print(json.dumps(walk(sys.argv[1])))
