"""A program that waits until a cluster has all its nodes: `python -m ray_jobs.nodes NUMBER`.

A plan counts the devices of the nodes that are there, and schedulers start nodes one after the
other. So rayjob.yaml and slurm.sbatch wait here before they start a run.
"""

from __future__ import annotations

import os
import socket
import time

import click

from orca2_gen.offline import go_offline
from ray_jobs.cluster import cluster_nodes, ray_instance

POLL_SECONDS = 1.0


@click.command()
@click.argument("number", type=click.IntRange(min=1))
@click.option("--seconds", default=600.0, show_default=True, help="How long to wait.")
def main(number: int, seconds: float) -> None:
    """Wait until the Ray cluster of RAY_ADDRESS has NUMBER nodes; exit with 1 if it is in vain."""
    address = os.environ.get("RAY_ADDRESS", "")
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise click.UsageError(f"RAY_ADDRESS is {address!r}; expected HEAD:PORT of the cluster")
    go_offline()
    end = time.monotonic() + seconds
    while not listens(host.strip("[]"), int(port)):
        _sleep_until(end, f"no Ray head answers at {address} after {seconds:.0f} s; see its output")
    while (joined := _joined()) < number:
        _sleep_until(
            end,
            f"{joined} of {number} nodes have joined {address} after {seconds:.0f} s; see what "
            "`ray start` printed on the others",
        )


def listens(host: str, port: int) -> bool:
    """Whether anybody takes connections there; `ray.init` waits two minutes to say that nobody
    does, and ends the process.
    """
    try:
        with socket.create_connection((host, port), timeout=POLL_SECONDS):
            return True
    except OSError:
        return False


def _joined() -> int:
    try:
        with ray_instance():
            return len(cluster_nodes())
    except ConnectionError:  # the head answers before its own node has joined it
        return 0


def _sleep_until(end: float, otherwise: str) -> None:
    if time.monotonic() >= end:
        raise click.ClickException(otherwise)
    time.sleep(POLL_SECONDS)


if __name__ == "__main__":
    main()
