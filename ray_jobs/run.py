"""One run directory under one driver: lock, ledger, progress."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from orca2_gen.config.arguments import selection_rule
from orca2_gen.config.load import resolved
from orca2_gen.config.schema import Config
from orca2_gen.foresight.amounts import Amount
from orca2_gen.provenance.about import about_run
from orca2_gen.provenance.fork import fork_run
from orca2_gen.provenance.inputs import Inputs, read_inputs
from orca2_gen.provenance.recorded import record_stages, versions_of
from orca2_gen.provenance.stage_keys import stage_determinants, stage_keys
from orca2_gen.records import ROLES, Role
from orca2_gen.run_directory.claim import claim_run_directory, is_run, no_run
from orca2_gen.run_directory.committed_files import CommittedFiles, naming_fork
from orca2_gen.run_directory.ledger import Ledger, read_ledger
from orca2_gen.run_directory.lock import run_lock
from orca2_gen.run_directory.unlisted import set_aside_unlisted
from orca2_gen.selection.blocks import Rule
from ray_jobs.cluster import Node, cluster_nodes, ray_instance
from ray_jobs.dispatch.receipts import Advance
from ray_jobs.dispatch.signals import told_if_ended
from ray_jobs.engines.replicas import Replicas
from ray_jobs.engines.room import cluster_lines

Track = Callable[[str, Amount], AbstractContextManager[Advance]]
"""(stage, what it has to do) -> a context that shows progress and yields the function to call with
each receipt."""


@dataclass(kw_only=True, slots=True)
class Run:
    """One run directory under this driver's lock."""

    config: Config
    inputs: Inputs
    """All that determines rows beside the config, as it was when this driver began."""
    rule: Rule
    """Rule of the selection."""
    run_dir: Path
    ledger: Ledger
    keys: dict[str, str]
    """Stage -> its key."""
    track: Track
    say: Callable[[str], None]
    """Function that takes a line for people: an engine that died, a retry."""
    driver: str
    """Hexadecimal id of this driver alone, in the name of every file that is written for it."""
    nodes: tuple[Node, ...]
    """Nodes of the cluster when the run began, for which its engines are planned: if one is lost
    later, engines without room wait, and the others go on."""
    replicas: list[Replicas] = field(default_factory=list)
    """Engines that exist now, one entry per model."""
    failed_devices: set[tuple[str, str]] = field(default_factory=set)
    """GPUs (node, id) on which an engine of this driver failed to start."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Stage -> wall seconds spent in this process."""


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@contextmanager
def open_run(
    config: Config,
    track: Track,
    say: Callable[[str], None] = _say,
    roles: Collection[Role] = ROLES,
    fork: Path | None = None,
    inputs: Inputs | None = None,
    check: bool = False,
) -> Iterator[Run]:
    """A context with Ray up and a Run whose directory is locked and whose units fit the config.

    Files that no receipt lists are set aside at its beginning and at its end without an error.

    Args:
        config: config of the run.
        track: display of progress.
        say: function that takes lines for people.
        roles: roles of the models that will be started, which must fit the cluster.
        fork: another run; whatever fits the config is taken over from it first.
        inputs: inputs of the config, if they have been read; None reads them.
        check: whether committed files are compared with their digests, not only by size.

    Raises:
        DamagedFile: committed files are damaged, found before any engine starts, or at the end.
        RunInUse: another driver holds the directory.
        ValueError: the directory is somebody's, its units were made under other settings, there is
            nothing to fork, or an engine does not fit.
    """
    inputs = inputs or read_inputs(config)
    keys = stage_keys(determinants := stage_determinants(config, inputs))
    run_dir = _claimed(Path(config.run_dir), fork)
    with naming_fork(run_dir), run_lock(run_dir, say=say) as lock:
        ledger = read_ledger(run_dir, writable=True, fence=lock.check)
        for line in (*ledger.notes, *_forked(fork, ledger, keys)):
            say(line)
        about = about_run(config, inputs, versions_of(fork))
        texts = inputs.strategies
        _say_if_any(say, record_stages(ledger, resolved(config), determinants, keys, texts, about))
        (committed := CommittedFiles(ledger=ledger, by_digest=check)).check()
        ledger.write_tip()
        _say_if_any(say, set_aside_unlisted(ledger))
        with told_if_ended(), ray_instance():
            nodes = tuple(cluster_nodes())
            for line in cluster_lines(config, nodes, roles):
                say(line)
            yield Run(
                config=config,
                inputs=inputs,
                rule=selection_rule(config, inputs.strategies),
                run_dir=run_dir,
                ledger=ledger,
                keys=keys,
                track=track,
                say=say,
                driver=secrets.token_hex(3),
                nodes=nodes,
            )
        # Dead processes leave files, a killed predecessor's engine even later. Now nobody writes.
        _say_if_any(say, set_aside_unlisted(ledger))
        say(committed.check())


def _say_if_any(say: Callable[[str], None], line: str) -> None:
    if line:
        say(line)


def _claimed(run_dir: Path, fork: Path | None) -> Path:
    """The run directory, ours from now on; not even made if there is nothing to fork."""
    if fork is not None and not is_run(fork):
        raise ValueError(f"--fork: {no_run(fork)}")
    return claim_run_directory(run_dir)


def _forked(source: Path | None, ledger: Ledger, keys: Mapping[str, str]) -> Iterator[str]:
    """Lines for people about the fork, which is made here; none without a source."""
    if source is None:
        return
    fork = fork_run(source, ledger, keys)
    yield f"forked {', '.join(fork.stages) or 'nothing'} from {source}"
    for line in fork.damaged:
        yield f"left behind, to be made again with everything made from it: {line}"
