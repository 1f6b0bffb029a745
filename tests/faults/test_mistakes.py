from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.mistaken import Mistake, faults_of
from tests.faults.mistakes import MISTAKES


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.name)
def test_a_mistake_is_one_plain_line_before_ray_and_writes_nothing(
    mistake: Mistake, tmp_path: Path
) -> None:
    assert faults_of(mistake, tmp_path) == []


def test_the_table_holds_at_least_150_mistakes_of_different_names() -> None:
    names = [mistake.name for mistake in MISTAKES]
    assert len(names) >= 150 and len(set(names)) == len(names)
