"""Engines with planned faults; and which faults of README.md have a test, by the tests' names."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ray_jobs.engines import placement
from tests.conftest import SUMMARY
from tests.faults.faulty import FaultyActor

NUM_ROWS = 47
NUMBERED = re.compile(r"test_(\d+)_(?:to_(\d+)_)?")


@pytest.fixture
def faulty_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of this process have engines with planned faults."""
    monkeypatch.setattr(placement, "EngineActor", FaultyActor)


def rows_of(test: str) -> set[int]:
    """The rows that a test's name begins with: `test_7_...` or `test_3_to_6_...`."""
    found = NUMBERED.match(test)
    if found is None:
        return set()
    first, last = int(found[1]), int(found[2] or found[1])
    return set(range(first, last + 1))


def pytest_collection_finish(session: pytest.Session) -> None:
    here = [item for item in session.items if item.path.is_relative_to(Path(__file__).parent)]
    if covered := sorted({row for item in here for row in rows_of(item.name)}):
        session.config.stash[SUMMARY]["fault matrix (tests/faults)"] = [
            f"{len(covered)} of {NUM_ROWS} faults of the matrix have a test among these: "
            f"{', '.join(map(str, covered))}"
        ]
