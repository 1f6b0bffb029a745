"""The run that no machine disturbs, on this one, and machines for the length of a test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from orca2_gen.config.load import load_config
from tests.conftest import FinishedRun, write_run_config
from tests.faults.drivers import run_driver
from tests.machines.namespaces import Site, site, skip_without_machines


@pytest.fixture(scope="session")
def alone(tmp_path_factory: pytest.TempPathFactory, chatml_dir: Path) -> FinishedRun:
    """A whole scripted run on this machine, with a Ray of its own."""
    skip_without_machines()
    file = write_run_config(tmp_path_factory.mktemp("alone"), chatml_dir)
    run_dir = file.parent / "run"
    code, printed = run_driver(file, run_dir)
    assert code == 0, printed
    return FinishedRun(config_file=file, config=load_config(file), run_dir=run_dir)


@pytest.fixture
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Machines that see the folders of all tests, and so the config and the runs."""
    skip_without_machines()
    with site(tmp_path_factory.getbasetemp()) as found:
        yield found
