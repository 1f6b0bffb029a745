"""`orca2 doctor`: what of a machine, a cluster and a config will not work, and what mends it."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import sys
from pathlib import Path

import click

from orca2_gen.commands.options import PATH, set_option
from orca2_gen.commands.preflight import first_answers
from orca2_gen.config.load import load_config
from orca2_gen.config.schema import Config
from orca2_gen.config.secrecy import secret_in
from orca2_gen.doctor.directory import directory_findings
from orca2_gen.doctor.findings import Finding, bad, good, odd
from orca2_gen.doctor.machine import machine_findings
from orca2_gen.exit_codes import FAILED

_MARKS = {"good": "ok  ", "odd": "odd ", "bad": "BAD "}


@click.command()
@click.argument("config_file", metavar="[CONFIG]", required=False, type=PATH)
@set_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for programs.")
def doctor(config_file: Path | None, overrides: tuple[str, ...], as_json: bool) -> None:
    """Look at this machine, at the nodes of RAY_ADDRESS, and at CONFIG's models and run_dir.

    Each thing that is odd or does not work has the command or change that mends it. The exit code
    is 1 if something does not work. Nothing is started but one short task on each node of a
    cluster, and what is tried in the run's directory is removed.
    """
    if overrides and config_file is None:
        raise click.UsageError("--set changes a CONFIG; give one")
    # Engines are where the cluster is, not here.
    examined = {platform.node(): machine_findings(0 if os.environ.get("RAY_ADDRESS") else None)}
    examined |= _cluster()
    if config_file is not None:
        examined[str(config_file)] = _config(config_file, overrides)
    is_bad = any(each.level == "bad" for findings in examined.values() for each in findings)
    if as_json:
        shown = {
            where: [dataclasses.asdict(each) for each in findings]
            for where, findings in examined.items()
        }
        click.echo(json.dumps({"works": not is_bad, "findings": shown}, indent=2))
    else:
        _print(examined)
    sys.exit(FAILED if is_bad else 0)


def _print(examined: dict[str, list[Finding]]) -> None:
    counts = {"good": 0, "odd": 0, "bad": 0}
    for where, findings in examined.items():
        click.echo(where)
        for each in findings:
            counts[each.level] += 1
            click.echo(f"  {_MARKS[each.level]} {each.about}: {each.found}")
            if each.remedy:
                click.echo(f"       -> {each.remedy}")
    click.echo(f"{counts['bad']} bad, {counts['odd']} odd, {counts['good']} ok")


def _cluster() -> dict[str, list[Finding]]:
    """Node -> what was found there; nothing without a cluster."""
    address = os.environ.get("RAY_ADDRESS")
    if not address:
        return {}
    if "@" in address or secret_in(address):
        found = "it holds credentials, which would appear in logs"
        return {"cluster": [bad("RAY_ADDRESS", found, "set RAY_AUTH_TOKEN_PATH instead")]}
    from ray.exceptions import RayError

    from ray_jobs.cluster import check_cpus, cluster_nodes, ray_instance
    from ray_jobs.examined_nodes import examined_nodes
    from ray_jobs.nodes import listens

    about = f"cluster at {address}"
    host, _, port = address.rpartition(":")
    if host and port.isdecimal() and not listens(host.strip("[]"), int(port)):
        remedy = "start Ray there, or set RAY_ADDRESS to HEAD:PORT of a cluster that runs"
        return {about: [bad("Ray", "nobody answers", remedy)]}
    try:
        with ray_instance():
            examined = examined_nodes()
            findings = [good("nodes", str(len(examined)))]
            try:
                check_cpus(cluster_nodes())
            except ValueError as error:
                findings.append(bad("CPUs", str(error), "ray start --num-cpus 1 or more"))
    except (ConnectionError, RuntimeError, ValueError, RayError) as error:
        said = " ".join(str(error).split())[:300]
        remedy = "check that `ray status` answers there, and RAY_AUTH_TOKEN_PATH (docs/cluster.md)"
        return {about: [bad("Ray", said, remedy)]}
    # Several nodes of one machine have one name.
    places = {
        f"node {number} of {len(examined)}: {each.host}": list(each.findings)
        for number, each in enumerate(examined, 1)
    }
    return {about: findings} | places


def _config(file: Path, overrides: tuple[str, ...]) -> list[Finding]:
    """What was found of a config: its keys, its models, its run directory."""
    try:
        config = load_config(file, overrides)
    except (ValueError, OSError) as error:
        return [bad("config", " ".join(str(error).split()), "change the key or file that it names")]
    return [*_models(config), *directory_findings(Path(config.run_dir))]


def _models(config: Config) -> list[Finding]:
    try:
        answers = first_answers(config)
    except (ValueError, OSError) as error:
        return [bad("models", " ".join(str(error).split()), "change what it names")]
    found = []
    for about, facts, doubts in answers:
        found.append(good(about, "; ".join(facts)))
        found += [odd(about, doubt, "see docs/models.md") for doubt in doubts]
    return found
