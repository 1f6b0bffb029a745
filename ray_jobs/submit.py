"""A run as a Ray job, through Ray's own Jobs SDK: submitted to a cluster and followed to its end.

Only our sources and the resolved config travel. Models, task files and the run directory lie on
storage that the nodes see. The job is `orca2 run` itself, so a stopped or lost job goes on where it
was when the same command is submitted again.
"""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import requests
from ray.exceptions import AuthenticationError
from ray.job_submission import JobStatus, JobSubmissionClient

from orca2_gen.config.load import resolved
from orca2_gen.config.schema import Config
from orca2_gen.config.secrecy import secret_in
from orca2_gen.exit_codes import FAILED, INTERRUPTED, REJECTED, USAGE
from orca2_gen.offline import OFFLINE_ENVIRONMENT

PACKAGES = ("orca2_gen", "ray_jobs", "train")
SUFFIXES = (".py", ".toml", ".jinja")
"""Suffixes of the files that travel: no weights, no data."""
POLL_SECONDS = 1.0
REQUEST_SECONDS = 30.0
SILENT_SECONDS = 120.0
"""Seconds without an answer of the cluster before we stop asking; the job does not notice."""

UNREACHABLE = (requests.RequestException, ConnectionError, RuntimeError)
"""Errors of the SDK if the dashboard is away, is starting, or cannot reach the job's node."""


def job_client(address: str) -> JobSubmissionClient:
    """A client of the cluster whose dashboard is at `address`.

    Its token comes from where Ray looks for one, and is shown nowhere.

    Raises:
        ValueError: the address is invalid, nobody answers there, or the cluster wants a token.
    """
    if "@" in address or secret_in(address):
        raise ValueError(
            "--address holds credentials, which would appear in logs; leave them out and set "
            "RAY_AUTH_TOKEN_PATH"
        )
    # Other schemes make Ray import a module by name.
    if not address.startswith(("http://", "https://")):
        raise ValueError(
            f"--address {address!r} is no dashboard; expected an address like http://127.0.0.1:8265"
        )
    # Ray prefers this variable to the address that it is given.
    os.environ["RAY_API_SERVER_ADDRESS"] = address
    try:
        client = JobSubmissionClient(address)
    except AuthenticationError as error:
        raise ValueError(
            f"--address {address}: {str(error).splitlines()[0]}; set RAY_AUTH_MODE=token, and put "
            "that cluster's token in the file of RAY_AUTH_TOKEN_PATH or in ~/.ray/auth_token"
        ) from error
    except (ConnectionError, requests.RequestException) as error:
        raise ValueError(
            f"--address {address}: no Ray dashboard answers; start the cluster's head with its "
            "dashboard, or tunnel to it"
        ) from error
    # The SDK waits forever; it passes further keywords to requests.
    client._do_request = functools.partial(client._do_request, timeout=REQUEST_SECONDS)
    client._raise_error = _raise_error
    return client


def _raise_error(response: requests.Response) -> None:
    """Raises what the cluster or a proxy answered, as a line without what it was sent."""
    said = response.text
    for value in response.request.headers.values():  # the token is one of them
        for word in str(value).split():
            said = said.replace(word, "...")
    first = said.strip().partition("\n")[0][:200]
    raise RuntimeError(f"the cluster answered with status {response.status_code}: {first}")


def submit_run(client: JobSubmissionClient, config: Config, python: str) -> str:
    """The id of the new job: the run's name and a counter.

    Args:
        client: client of the cluster.
        config: config of the run; its paths are the nodes' paths.
        python: interpreter on the cluster, with the dependencies of this package.

    Raises:
        ValueError: a job of the same run directory has not ended, or `python` holds a secret.
    """
    if secret_in(python):
        raise ValueError(
            "--python reads like it holds a secret, and a job's command is shown on the dashboard; "
            "set it in the environment of the nodes"
        )
    run_dir = os.path.abspath(config.run_dir)
    jobs = client.list_jobs()
    for job in jobs:
        is_ours = (job.metadata or {}).get("run_dir") == run_dir
        if is_ours and not job.status.is_terminal():
            raise ValueError(
                f"job {job.submission_id} ({job.status}) is working on {run_dir}; follow it with "
                f"`ray job logs --follow {job.submission_id}`, or stop it with `ray job stop "
                f"{job.submission_id}`"
            )
    config = config.model_copy(update={"run_dir": run_dir})
    with tempfile.TemporaryDirectory(prefix="orca2-submit-") as name:
        fill_working_dir(Path(name), config)
        # If two submit at once, one is refused, since both take the same id.
        submitted: str = client.submit_job(
            entrypoint=f"{python} -m orca2_gen run config.json",
            submission_id=next_id(Path(run_dir).name, [job.submission_id or "" for job in jobs]),
            runtime_env={"working_dir": name, "env_vars": dict(OFFLINE_ENVIRONMENT)},
            metadata={"run_dir": run_dir},
        )
    return submitted


def fill_working_dir(working_dir: Path, config: Config) -> None:
    """Fills an empty directory with all that a job needs from us: sources and config."""
    root = Path(__file__).parents[1]
    for package in PACKAGES:
        for file in sorted((root / package).rglob("*")):
            if file.suffix in SUFFIXES and file.is_file():
                target = working_dir / file.relative_to(root)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, target)
    (working_dir / "config.json").write_text(json.dumps(resolved(config)))


def next_id(name: str, taken: list[str]) -> str:
    """The run's name in characters that a URL takes unescaped, and a number not taken yet."""
    plain = re.sub(r"[^A-Za-z0-9_.-]", "_", name)
    numbers = [
        int(number)
        for prefix, _, number in (job_id.rpartition("-") for job_id in taken)
        if prefix == plain and number.isdigit()
    ]
    return f"{plain}-{max(numbers, default=0) + 1}"


def follow_job(client: JobSubmissionClient, job_id: str, say: Callable[[str], None]) -> int:
    """The exit code of the job once it has ended: its driver's own, if that is one of ours.

    Args:
        client: client of the cluster.
        job_id: id that `submit_run` returned.
        say: function that takes the job's output as it comes.

    Raises:
        RuntimeError: the cluster did not answer for SILENT_SECONDS; the job may go on.
    """
    shown = ""
    last_answer = time.monotonic()
    while True:
        try:
            details = client.get_job_info(job_id)
        except UNREACHABLE as error:
            if time.monotonic() - last_answer > SILENT_SECONDS:
                raise RuntimeError(
                    f"the cluster has not answered about job {job_id} for {SILENT_SECONDS:.0f} s "
                    f"({str(error).splitlines()[0]}); the job may still run: check with `ray job "
                    f"status {job_id}`"
                ) from error
            time.sleep(POLL_SECONDS)
            continue
        last_answer = time.monotonic()
        try:
            log = client.get_job_logs(job_id)
        except UNREACHABLE:  # the job's node is gone, or not there yet
            log = shown
        say(log.removeprefix(shown))  # all of it, if another node began it again
        shown = log
        if details.status.is_terminal():
            say(f"job {job_id}: {details.status}\n")
            return _exit_code(details, say)
        time.sleep(POLL_SECONDS)


def _exit_code(details: Any, say: Callable[[str], None]) -> int:
    """The exit code, one of ours, for a job that has ended."""
    if details.status == JobStatus.SUCCEEDED:
        return 0
    if details.status == JobStatus.STOPPED:
        return INTERRUPTED
    # A signal, or a shell that finds no interpreter, gives others.
    code = details.driver_exit_code
    if code in (FAILED, USAGE, REJECTED, INTERRUPTED):
        return int(code)
    # The driver had no last word: the message begins with Ray's own, and the log follows in it.
    say(f"{(details.message or 'no reason is known').splitlines()[0]}\n")
    return FAILED
