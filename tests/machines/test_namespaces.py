"""Machines are apart from each other and from the host, and end with whoever made them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.machines.namespaces import Machine, Site, skip_without_machines
from tests.pins import ROOT

pytestmark = pytest.mark.slow

LISTEN = """
import socket
with socket.create_server(("", 7000)) as server:
    print("up", flush=True)
    while True:
        server.accept()[0].close()
"""
CONNECT = "import socket, sys; socket.create_connection((sys.argv[1], 7000), timeout=2)"
MAKER = """
import sys, time
from pathlib import Path
from tests.machines.namespaces import site
shared = Path(sys.argv[1])
with site(shared) as found:
    machine = found.add(is_slow=True)
    machine.start("sleep", sys.argv[2], output=shared / "sleep.out")
    print("up", flush=True)
    time.sleep(600)
"""


def reaches(machine: Machine, other: Machine) -> bool:
    command = [*machine.through, "python", "-c", CONNECT, other.name]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_a_machine_has_its_own_files_processes_and_name_and_reaches_the_others_by_its_link(
    machines: Site,
) -> None:
    first, second = machines.add(), machines.add()
    for place in ("/tmp", "/dev/shm", str(Path.home())):
        first.run("touch", f"{place}/mine")
        assert not (Path(place) / "mine").exists()
        assert "mine" not in second.run("ls", "-A", place)
    assert first.run("hostname") == "machine-1\n"
    assert len(first.run("bash", "-c", "echo /proc/[0-9]*").split()) < 5
    seen_by_both = machines.shared / "seen"
    first.run("touch", str(seen_by_both))
    second.run("rm", str(seen_by_both))
    links = first.run("ip", "-brief", "link").split("\n")
    assert sorted(line.partition("@")[0].split(" ")[0] for line in links if line) == ["eth0", "lo"]

    output = machines.shared / "listen.out"
    first.start("python", "-c", LISTEN, output=output)
    while output.read_text() != "up\n":
        time.sleep(0.05)
    assert reaches(second, first)
    second.cut_off()
    assert not reaches(second, first)


@pytest.mark.parametrize("signal", ["TERM", "KILL", "INT"])
def test_nothing_is_left_of_machines_whose_maker_was_ended(tmp_path: Path, signal: str) -> None:
    skip_without_machines()
    before = subprocess.run(["ip", "-brief", "link"], capture_output=True, text=True).stdout
    mark = f"{10_000 + os.getpid()}.5"
    maker = subprocess.Popen(
        [sys.executable, "-c", MAKER, str(tmp_path), mark],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert maker.stdout is not None and maker.stdout.readline() == "up\n"
    family: list[psutil.Process] = []
    while not any(each.cmdline() == ["sleep", mark] for each in family):
        assert maker.poll() is None
        family = psutil.Process(maker.pid).children(recursive=True)
    subprocess.run(["kill", f"-{signal}", str(maker.pid)], check=True)
    maker.communicate(timeout=30)
    _, left = psutil.wait_procs(family, timeout=20)
    assert left == []
    assert subprocess.run(["ip", "-brief", "link"], capture_output=True, text=True).stdout == before
