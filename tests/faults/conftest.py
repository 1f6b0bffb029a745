"""Engines with planned faults; the summary of the fault matrix after the tests of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from ray_jobs.engines import placement
from tests.conftest import SUMMARY
from tests.faults.faulty import FaultyActor
from tests.faults.matrix import summary


@pytest.fixture
def faulty_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gives the runs of this process engines with planned faults."""
    monkeypatch.setattr(placement, "EngineActor", FaultyActor)


def pytest_collection_finish(session: pytest.Session) -> None:
    here = Path(__file__).parent
    if any(item.path.is_relative_to(here) for item in session.items):
        session.config.stash[SUMMARY]["fault matrix (tests/faults/matrix.py)"] = summary()
