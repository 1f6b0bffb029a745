"""A link that takes its time and loses frames: `python -m tests.machines.slow_link NAME`.

It stands for `tc netem`, which not every kernel has. Each end of the link is a tap, an interface
whose frames a process reads and writes: this one, which lies in the switch's network.
"""

from __future__ import annotations

import fcntl
import os
import random
import select
import struct
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from tests.pins import ROOT

DELAY_SECONDS = 0.1
"""Seconds that a frame takes, in each direction."""
LOSS = 0.01
"""Share of the frames that are lost, in each direction."""
MOST_FRAME_BYTES = 65_536
# linux/if_tun.h
TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454CA, 0x0002, 0x1000


@contextmanager
def slow_link(switch: int, name: str) -> Iterator[None]:
    """A context with a link from interface NAME to NAME-far in the switch's network."""
    entering = ["nsenter", f"--target={switch}", "--net", "--"]
    process = subprocess.Popen(
        [*entering, sys.executable, "-m", "tests.machines.slow_link", name],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        assert process.stdout.readline() == "up\n"
        yield
    finally:
        process.stdin.close()
        process.wait(timeout=20)
        carried, lost = map(int, process.stdout.read().split())
        process.stdout.close()
        assert lost > 0, f"the link carried {carried} frames and lost none"


def tap(name: str) -> int:
    """The descriptor of a new interface."""
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(descriptor, TUNSETIFF, struct.pack("16sH", name.encode(), IFF_TAP | IFF_NO_PI))
    return descriptor


def carry(ends: tuple[int, int], until: int) -> tuple[int, int]:
    """The numbers of frames carried and lost between two interfaces, until a pipe is closed."""
    other = {ends[0]: ends[1], ends[1]: ends[0]}
    # All take equally long, so the first to come is the first to go.
    under_way: deque[tuple[float, int, bytes]] = deque()
    chance = random.Random(0)
    carried = lost = 0
    while True:
        wait = max(0.0, under_way[0][0] - time.monotonic()) if under_way else None
        ready, _, _ = select.select([*ends, until], [], [], wait)
        if until in ready:
            return carried, lost
        for end in ready:
            frame = os.read(end, MOST_FRAME_BYTES)
            if chance.random() < LOSS:
                lost += 1
            else:
                under_way.append((time.monotonic() + DELAY_SECONDS, other[end], frame))
        while under_way and under_way[0][0] <= time.monotonic():
            _, end, frame = under_way.popleft()
            try:
                os.write(end, frame)
                carried += 1
            except OSError:  # that interface is down
                lost += 1


def main(name: str) -> None:
    """Carries frames until the standard input is closed; prints how many, and how many it lost."""
    ends = tap(name), tap(f"{name}-far")
    print("up", flush=True)
    print(*carry(ends, sys.stdin.fileno()))


if __name__ == "__main__":
    main(sys.argv[1])
