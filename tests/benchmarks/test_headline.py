"""The comparison with the assemblies of ray.data.llm, by real engines at the tiny size."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from math import prod
from pathlib import Path

import pytest

from benchmarks.assembly.split import CAUSES
from benchmarks.headline import finished

ROOT = Path(__file__).parents[2]
SECONDS = 1200
"""It takes four minutes on two idle cores, most of them starts of its dozen engines."""


@pytest.mark.slow
@pytest.mark.engine
@pytest.mark.timeout(SECONDS + 60)
def test_one_tiny_pair_goes_through_and_its_last_line_is_the_document() -> None:
    pytest.importorskip("ray.data.llm")
    command = [sys.executable, "-m", "benchmarks.headline", "--tiny", "--pairs", "1"]
    ended = subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, timeout=SECONDS, env=dict(os.environ)
    )
    assert ended.returncode == 0, ended.stderr[-4000:]
    *tables, last = ended.stdout.splitlines()
    found = json.loads(last)
    assert list(found)[:6] == [
        *("factor", "factor_careful", "race", "first_accepted", "packing", "overhead")
    ]
    assert prod(found[cause] for cause in CAUSES) == pytest.approx(found["factor"], rel=0.01)
    told = {name: passes[0] for name, passes in found["contenders"].items()}
    assert {each["mean_grade"] for each in told.values()} == {1.0}
    assert all(0 < each["rows"] <= found["problems"] for each in told.values())
    ours, replayed = told["ours"], told["replayed"]
    for role in ("student", "teacher"):
        assert ours[role]["requests"] == replayed[role]["requests"]
        assert ours[role]["prompt_tokens"] == replayed[role]["prompt_tokens"]
    assert told["usual"]["teacher"]["requests"] == 4 * found["problems"]
    assert ours["student"]["requests"] <= told["careful"]["student"]["requests"]
    assert any("first_accepted" in line for line in tables)


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (("--pairs", "0"), "--pairs is 0; expected at least 1"),
        (("--config", "ray_jobs/configs/rehearsal.toml"), "student is no vLLM engine"),
        (("--config", "absent.toml"), "absent.toml"),
        (("--set", "rationales.max_attempts=many"), "rationales.max_attempts"),
    ],
)
def test_a_mistake_is_told_before_anything_starts(given: tuple[str, ...], line: str) -> None:
    command = [sys.executable, "-m", "benchmarks.headline", *given]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert ended.returncode == 2
    assert line in ended.stderr.splitlines()[-1]
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("last", [1, 2, 3])
def test_an_interrupt_leaves_the_pairs_that_are_finished(last: int) -> None:
    def make(number: int) -> int:
        if number == last:
            raise KeyboardInterrupt
        return number

    assert finished(make, 3) == list(range(last))


def test_an_interrupt_in_the_first_pair_leaves_nothing_to_tell() -> None:
    def make(number: int) -> int:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        finished(make, 3)
