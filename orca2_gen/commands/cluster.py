"""The command of `orca2` that makes a run a job on a cluster."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import click

from orca2_gen.commands.options import config_argument, set_option
from orca2_gen.commands.preflight import ask_if_seen
from orca2_gen.config.load import read_config
from orca2_gen.exit_codes import INTERRUPTED


@click.command()
@config_argument
@set_option
@click.option(
    "--address",
    required=True,
    envvar="RAY_API_SERVER_ADDRESS",
    help="Address of the cluster's dashboard, e.g. http://127.0.0.1:8265.",
)
@click.option(
    "--python", default="python", show_default=True, help="The interpreter on the cluster."
)
@click.option("--no-wait", is_flag=True, help="Do not follow the job to its end.")
def submit(
    config_file: Path, overrides: tuple[str, ...], address: str, python: str, no_wait: bool
) -> None:
    """Run CONFIG as a Ray job: what `orca2 run` does, on a cluster, followed from here.

    Models, task files and run_dir must lie where every node of the cluster sees them.
    """
    from ray_jobs.submit import follow_job, job_client, submit_run

    config = read_config(config_file, overrides)
    ask_if_seen(config)
    client = job_client(address)
    job_id = submit_run(client, config, python)
    again = shlex.join(["orca2", *sys.argv[1:]])
    click.echo(
        f"submitted {job_id}; if the job is stopped or lost, continue with: {again}", err=True
    )
    if no_wait:
        return
    try:
        sys.exit(follow_job(client, job_id, lambda text: click.echo(text, nl=False)))
    except KeyboardInterrupt:
        click.echo(
            f"Job {job_id} continues without being followed. See it with `ray job logs --follow "
            f"{job_id}`, end it with `ray job stop {job_id}`.",
            err=True,
        )
        sys.exit(INTERRUPTED)
