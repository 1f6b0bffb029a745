"""`python -m ray_jobs.nodes` without a cluster; test_retries.py and test_slurm.py have one."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from orca2_gen.exit_codes import FAILED, USAGE
from ray_jobs.nodes import main
from tests.faults.heads import free_ports


@pytest.mark.parametrize("address", ["", "auto", "6379", "http://127.0.0.1"])
def test_an_address_that_is_no_heads_is_refused(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    done = CliRunner().invoke(main, ["2"])
    assert done.exit_code == USAGE
    assert f"RAY_ADDRESS is '{address}'; expected HEAD:PORT" in done.output


def test_a_head_that_does_not_come_is_a_failure_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    [port] = free_ports(1)
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{port}")
    done = CliRunner().invoke(main, ["2", "--seconds", "0.5"])
    assert done.exit_code == FAILED
    assert f"no Ray head answers at 127.0.0.1:{port}" in done.output


def test_a_host_of_ipv6_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, int]] = []
    monkeypatch.setattr("ray_jobs.nodes.listens", lambda *place: bool(asked.append(place)))
    monkeypatch.setenv("RAY_ADDRESS", "[::1]:6379")
    CliRunner().invoke(main, ["2", "--seconds", "0"])
    assert asked == [("::1", 6379)]
