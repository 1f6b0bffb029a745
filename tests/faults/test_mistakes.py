from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.mistaken import Mistake, reported
from tests.faults.mistakes import MISTAKES


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.name)
def test_a_mistake_is_one_plain_line_before_ray_and_writes_nothing(
    mistake: Mistake, tmp_path: Path
) -> None:
    assert reported(mistake, tmp_path)[1] == []


def test_the_table_holds_at_least_150_mistakes_of_different_names() -> None:
    names = [mistake.name for mistake in MISTAKES]
    assert len(names) >= 150 and len(set(names)) == len(names)
