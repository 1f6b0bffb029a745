"""The engines of one model in a run: where they start, what they work on, what they leave."""

from __future__ import annotations

import glob
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from orca2_gen.config.engine import EngineConfig
from orca2_gen.config.load import engine_directory
from orca2_gen.provenance.recorded import record_versions
from orca2_gen.run_directory.engine_figures import FOLDER, EngineFigures
from orca2_gen.run_directory.units import Receipt
from ray_jobs.cluster import cluster_nodes
from ray_jobs.dispatch.leases import EngineUnit
from ray_jobs.dispatch.receipts import Advance, Tally
from ray_jobs.engines.ahead import Ahead
from ray_jobs.engines.cuts import Cuts
from ray_jobs.engines.devices import Devices
from ray_jobs.engines.logs import EngineLog
from ray_jobs.engines.placement import PlacedEngine, placement_on, start_engine
from ray_jobs.engines.replicas import Replicas
from ray_jobs.engines.room import room_for
from ray_jobs.engines.versions import Versions
from ray_jobs.engines.work import EngineWork
from ray_jobs.run import Run


@contextmanager
def engine_work(
    run: Run,
    stage: str,
    engine: EngineConfig,
    units: Iterable[EngineUnit],
    tally: Tally,
    advance: Advance,
    *,
    is_shared: bool = False,
    are_held: bool = False,
    makes_rows: bool = True,
    ahead: Ahead | None = None,
) -> Iterator[EngineWork]:
    """A context with the EngineWork of a model, whose engines are gone when the context ends.

    Args:
        run: run of the engines.
        stage: name of the stage that they work for.
        engine: engine with the model.
        units: units to begin with.
        tally: tally of their stage.
        advance: see Work.
        is_shared: whether another model's engines may run at the same time.
        are_held: whether no engine starts before it is released.
        makes_rows: whether the dataset's rows depend on what the engines answer.
        ahead: work ahead of the units, if any.
    """
    replicas = _replicas(run, stage, engine, is_shared, are_held, makes_rows)
    run.replicas.append(replicas)
    cuts = Cuts()
    try:
        yield EngineWork(
            replicas=replicas,
            # Twice the batch: one half generates, the other waits where the engine sees it.
            requests_per_engine=2 * engine.sequences,
            tally=tally,
            advance=_discarding(run.run_dir, cuts, ahead, advance),
            waiting=deque(units),
            cuts=cuts,
            ahead=ahead,
        )
    except KeyboardInterrupt:
        replicas.kill()
        raise
    finally:
        replicas.close()
        run.replicas.remove(replicas)
        if ahead is not None:
            _remove_work_ahead(run.run_dir, ahead)


def _discarding(run_dir: Path, cuts: Cuts, ahead: Ahead | None, advance: Advance) -> Advance:
    """The function, after the files of a committed unit's parts are removed: it has their rows."""

    def committed(receipt: Receipt) -> None:
        cuts.give_up(receipt.unit)
        # Those of chunks may hold cells of the next block too.
        parts = cuts.merged.pop(receipt.unit, ())
        stale = [part for part in parts if part.unit == receipt.unit]
        if ahead is not None:
            ahead.committed(receipt)
            stale += ahead.take_stale()
        _remove_files(run_dir, stale)
        advance(receipt)

    return committed


def _replicas(
    run: Run, stage: str, engine: EngineConfig, is_shared: bool, are_held: bool, makes_rows: bool
) -> Replicas:
    """The Replicas of a model, none of which is started."""
    model = Path(engine_directory(engine)).name

    def say(line: str) -> None:
        run.say(f"{model}: {line}" if is_shared else line)

    def record(versions: Versions) -> None:
        if makes_rows:
            record_versions(run.run_dir, [versions])

    return Replicas(
        _starter(run, stage, engine, is_shared),
        engine.replicas,
        run.config.dispatch,
        say,
        are_held=are_held,
        record=record,
        devices=Devices(say, room_for(placement_on(engine, run.nodes)), run.failed_devices),
        keep_nodes=is_shared,
    )


def _remove_work_ahead(run_dir: Path, ahead: Ahead) -> None:
    """Removes the files of what is left of it, once no engine runs that could write more."""
    for unit in ahead.end():
        # Nobody has read the receipt of one that was finished last. Another driver may have taken
        # over and work on the same cells.
        own = f"{glob.escape(unit.name.unit)}.*-{unit.name.driver}.arrow"
        for path in (run_dir / unit.name.stage).glob(own):
            path.unlink(missing_ok=True)
    _remove_files(run_dir, ahead.take_stale())


def _remove_files(run_dir: Path, receipts: Iterable[Receipt]) -> None:
    for receipt in receipts:
        for entry in receipt.files:
            (run_dir / entry.path).unlink(missing_ok=True)


def _starter(
    run: Run, stage: str, engine: EngineConfig, is_shared: bool
) -> Callable[[int, str], PlacedEngine]:
    """A function: replica, node -> a new engine, on cores that no other engine of the run has."""
    placement = placement_on(engine, run.nodes)
    prefix = f"{len(run.replicas)}-" if run.replicas else ""
    model = Path(engine_directory(engine)).name
    name = re.sub(r"[^\w.-]", "-", model)[:60]

    def start(replica: int, node: str) -> PlacedEngine:
        is_kept = placement.device == "gpu" and node in {each.node_id for each in cluster_nodes()}
        living = [r.engine for replicas in run.replicas for r in replicas.all if r.engine]
        log = EngineLog(path=run.run_dir / FOLDER / f"{name}-{prefix}{replica}.log")
        return start_engine(
            engine,
            placement,
            taken=[core for other in living for core in other.cores],
            is_shared=is_shared,
            node_id=node if is_kept else "",
            log=log,
            figures=EngineFigures(
                start=log.start,
                stage=stage,
                model=model,
                replica=replica,
                node="",
                num_gpus=placement.ranks if placement.device == "gpu" else 0,
            ),
            run_dir=run.run_dir,
            inputs=run.inputs,
            rationales=run.config.rationales,
            run_seed=run.config.run_seed,
            stall_seconds=run.config.dispatch.stall_seconds,
            request_seconds=run.config.dispatch.request_seconds,
        )

    return start
