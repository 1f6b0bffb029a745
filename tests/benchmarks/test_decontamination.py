"""The benchmark plants copies, finds them, and says how many."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from benchmarks.decontamination import measure
from benchmarks.planted_copies import disguised, generated_questions, one_in_ten_changed, renamed
from orca2_gen.tasks.normal_form import plain_text

pytestmark = pytest.mark.usefixtures("local_ray")


def test_the_benchmark_finds_what_it_plants(tmp_path: Path) -> None:
    figures = measure(tmp_path, 2_000, None)
    assert figures["questions"] == 2_000
    for rate in ("recall", "precision", "exact_recall", "exact_precision", "renamed_recall"):
        assert figures[rate] >= 0.95, rate
    assert figures["seconds"] > 0
    assert figures["peak_rss_mb"] > 0


def test_planted_copies_are_what_they_are_called() -> None:
    rng = random.Random(0)
    for row in generated_questions(50, seed=1):
        text = row["question"]
        assert plain_text(disguised(text, rng)) == plain_text(text)
        others = one_in_ten_changed(text, ["zzz"], rng)
        assert len(text.split()) == len(others.split())
        assert 1 <= others.split().count("zzz") <= len(text.split()) // 10
        assert len(renamed(text, rng).split()) == len(text.split())
