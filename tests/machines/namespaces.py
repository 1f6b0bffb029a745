"""Machines made of Linux namespaces, and the switch between them.

A machine has a network, processes, a host name, /tmp, /dev/shm and a home of its own. The kernel,
its clock and every other directory are shared. It lives as long as its first process, which reads
from a pipe of ours: whatever ends us closes the pipe, and with the first process the kernel ends
all others of the machine, and its network.

The switch is a bridge in a network namespace that is no machine's. Nothing here touches an
interface, a route or a mount of the host.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.machines.slow_link import slow_link
from tests.pins import ROOT

BIN = Path(sys.executable).parent
NETWORK = "10.77.0"
GATEWAY = f"{NETWORK}.254"
MOST_MACHINES = 4
PROGRAMS = ("unshare", "nsenter", "ip", "mount", "bash")
SPACES = ("--mount", "--net", "--pid", "--uts", "--ipc")

# The words: host name, an empty directory, a file of host names, the home, and the paths below the
# home and /tmp that the machine shares with the others.
MACHINE = """
set -eu
name=$1 own=$2 hosts=$3 home=$4
shift 4
mount -t proc proc /proc
echo "$name" > /proc/sys/kernel/hostname
mount -t tmpfs own "$own"
mkdir "$own/home"
mkdir -m 1777 "$own/tmp"
for shared; do
    case $shared in
        /tmp/*) place=$own$shared ;;
        "$home"/*) place=$own/home${shared#"$home"} ;;
        *) continue ;;
    esac
    mkdir -p "$place"
    mount --bind "$shared" "$place"
done
mount -t tmpfs -o size=1g own /dev/shm
mount --bind "$hosts" /etc/hosts
# Nobody answers for the host's name servers, and gRPC would wait for them even about a known name.
[ ! -e /etc/resolv.conf ] || mount --bind /dev/null /etc/resolv.conf
mount --rbind "$own/home" "$home"
mount --rbind "$own/tmp" /tmp
ip link set lo up
echo up
read -r _ || true
"""
SWITCH = "ip link set lo up; echo up; read -r _ || true"


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """One machine, up and connected."""

    name: str
    address: str
    first: psutil.Process
    """First process of the machine, as the host knows it."""
    switch: int
    """Process id of the switch."""
    variables: dict[str, str]
    """Variables of every command."""
    started: list[subprocess.Popen[str]]
    """Processes that enter machines, which are waited for at the end."""

    @property
    def through(self) -> list[str]:
        """Words before a command that run it on this machine, in the repository's root."""
        entering = ["nsenter", f"--target={self.first.pid}", *SPACES, "--"]
        # What is set here for a Ray or for files of ours is no machine's.
        ours = [name for name in os.environ if name.startswith("RAY_") or name == "TMPDIR"]
        without = [f"--unset={name}" for name in ours]
        given = [f"{name}={value}" for name, value in self.variables.items()]
        return [*entering, "env", f"--chdir={ROOT}", *without, *given]

    def start(self, *command: str, output: Path, **variables: str) -> subprocess.Popen[str]:
        """A process on this machine that prints to a file."""
        given = [f"{name}={value}" for name, value in variables.items()]
        with output.open("a") as file:
            process = subprocess.Popen(
                [*self.through, *given, *command],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                text=True,
            )
        self.started.append(process)
        return process

    def run(self, *command: str, input: str = "", seconds: float = 120.0) -> str:
        """What a command prints on this machine.

        Raises:
            AssertionError: it failed.
        """
        # To a file: what it leaves running would keep a pipe open.
        with tempfile.TemporaryFile("w+") as printed:
            process = subprocess.Popen(
                [*self.through, *command],
                stdin=subprocess.PIPE,
                stdout=printed,
                stderr=subprocess.STDOUT,
                text=True,
            )
            self.started.append(process)
            with suppress(subprocess.TimeoutExpired):
                process.communicate(input, timeout=seconds)
            printed.seek(0)
            text = printed.read()
        assert process.returncode == 0, f"{command} on {self.name}: {text}"
        return text

    def cut_off(self) -> None:
        """Takes its link down, at the switch."""
        in_switch(self.switch, "link", "set", self.name, "down")

    def kill(self) -> None:
        """Ends all its processes at once, and with them the machine."""
        self.first.kill()
        psutil.wait_procs([self.first], timeout=20)


@dataclass(frozen=True, kw_only=True, slots=True)
class Site:
    """A switch, and the machines on it."""

    switch: int
    shared: Path
    """Directory that all machines see."""
    stack: ExitStack
    machines: list[Machine]
    started: list[subprocess.Popen[str]]

    def add(self, *, is_slow: bool = False, **variables: str) -> Machine:
        """A further machine.

        Args:
            is_slow: whether its link is slow and loses frames.
            variables: variables of its commands.
        """
        number = len(self.machines) + 1
        name = f"machine-{number}"
        own = self.shared / f"own-{name}"  # empty but inside the machine
        own.mkdir(exist_ok=True)
        paths = (str(path) for path in (self.shared, ROOT, sys.prefix, sys.base_prefix))
        apart = ["unshare", *SPACES, "--fork", "--kill-child", "--propagation=private"]
        places = [str(own), str(self.shared / "hosts"), str(Path.home()), *paths]
        first = _first_process(self.stack, *apart, "bash", "-c", MACHINE, "machine", name, *places)
        [inside] = first.children()
        machine = Machine(
            name=name,
            address=f"{NETWORK}.{number}",
            first=inside,
            switch=self.switch,
            variables={
                "HOME": str(Path.home()),
                "PATH": f"{BIN}:{os.environ['PATH']}",
                "RAY_raylet_start_wait_time_s": "300",  # the host may be busy
                **variables,
            },
            started=self.started,
        )
        self._connect(machine, is_slow)
        self.machines.append(machine)
        return machine

    def _connect(self, machine: Machine, is_slow: bool) -> None:
        name, pid = machine.name, str(machine.first.pid)
        if is_slow:
            self.stack.enter_context(slow_link(self.switch, name))
            in_switch(self.switch, "link", "set", f"{name}-far", "netns", pid, "name", "eth0")
        else:
            pair = ("link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", pid)
            in_switch(self.switch, *pair)
        in_switch(self.switch, "link", "set", name, "master", "bridge", "up")
        machine.run("ip", "address", "add", f"{machine.address}/24", "dev", "eth0")
        machine.run("ip", "link", "set", "eth0", "up")
        # Ray asks for the way to a public name server to learn the machine's address.
        machine.run("ip", "route", "add", "default", "via", GATEWAY)


@contextmanager
def site(shared: Path) -> Iterator[Site]:
    """A context with a switch; what was added to it is gone afterwards, whatever happened."""
    names = [f"{NETWORK}.{n} machine-{n}\n" for n in range(1, MOST_MACHINES + 1)]
    (shared / "hosts").write_text("".join(["127.0.0.1 localhost\n", *names]))
    started: list[subprocess.Popen[str]] = []
    with ExitStack() as stack:
        stack.callback(_wait_for_all, started)
        switch = _first_process(stack, "unshare", "--net", "bash", "-c", SWITCH).pid
        in_switch(switch, "link", "add", "bridge", "type", "bridge")
        in_switch(switch, "address", "add", f"{GATEWAY}/24", "dev", "bridge")
        in_switch(switch, "link", "set", "bridge", "up")
        yield Site(switch=switch, shared=shared, stack=stack, machines=[], started=started)


def skip_without_machines() -> None:
    """Skips the test, with the reason, where no machine can be made."""
    if missing := [name for name in PROGRAMS if shutil.which(name) is None]:
        pytest.skip(f"no {', '.join(missing)} here")
    if os.geteuid() != 0:
        pytest.skip("machines of namespaces need root")
    if not Path("/dev/net/tun").exists():
        pytest.skip("no /dev/net/tun here, for slow links")
    tried = "mount -t tmpfs x /tmp && ip link add x type bridge && ip link add y type veth"
    probe = subprocess.run(
        ["unshare", *SPACES, "--fork", "--propagation=private", "bash", "-c", tried],
        capture_output=True,
        text=True,
        check=False,
    )
    if probe.returncode:
        pytest.skip(f"no machine of namespaces here: {probe.stderr.strip()}")


def in_switch(switch: int, *words: str) -> None:
    """Runs `ip` with these words in the switch's network."""
    entering = ["nsenter", f"--target={switch}", "--net", "--", "ip", *words]
    done = subprocess.run(entering, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{words}: {done.stderr}"


def _first_process(stack: ExitStack, *command: str) -> psutil.Process:
    """A process that prints `up`, and ends with the stack or with us."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdin is not None and process.stdout is not None
    stack.callback(_end, process)
    said = process.stdout.readline()
    assert said == "up\n", said + process.stdout.read()
    return psutil.Process(process.pid)


def _end(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None and process.stdout is not None
    with suppress(BrokenPipeError):
        process.stdin.close()
    try:
        process.wait(timeout=20)
    except subprocess.TimeoutExpired:
        process.kill()  # its child, the first process of a machine, is killed with it
        process.wait()
    process.stdout.close()


def _wait_for_all(started: list[subprocess.Popen[str]]) -> None:
    for process in started:
        process.wait(timeout=20)
