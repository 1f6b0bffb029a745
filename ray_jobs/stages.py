"""One stage of a run: Ray tasks or engines work on its leases."""

from __future__ import annotations

import glob
import re
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray

from orca2_gen.config.engine import EngineConfig
from orca2_gen.config.load import engine_directory
from orca2_gen.provenance.recorded import record_versions
from orca2_gen.run_directory.units import STAGES, Receipt
from ray_jobs.cluster import cluster_nodes
from ray_jobs.dispatch.file_work import FileWork
from ray_jobs.dispatch.leases import EngineUnit, FileLease
from ray_jobs.dispatch.loop import dispatch
from ray_jobs.dispatch.receipts import Advance, Receipts, Tally
from ray_jobs.engines.ahead import Ahead, FindRows
from ray_jobs.engines.cuts import Cuts
from ray_jobs.engines.devices import Devices
from ray_jobs.engines.logs import FOLDER, EngineLog
from ray_jobs.engines.placement import PlacedEngine, placement_on, start_engine
from ray_jobs.engines.read_ahead import ReadAhead
from ray_jobs.engines.replicas import Replicas
from ray_jobs.engines.room import room_for
from ray_jobs.engines.versions import Versions
from ray_jobs.engines.work import EngineWork
from ray_jobs.run import Run


def run_files(
    run: Run,
    stage: str,
    function: Callable[..., Any],
    leases: Sequence[FileLease],
    total: int | None = -1,
) -> None:
    """Runs leases that need no engine as Ray tasks.

    `total` is the number of units to come: -1 for one per lease, None if unknown.
    """
    started = time.monotonic()
    tally = tally_of(run, stage)
    if leases:
        with run.track(stage, len(leases) if total == -1 else total) as advance:
            work = file_work(run, function, leases, tally, advance)
            dispatch(run.ledger, [work])
    run.seconds[stage] = run.seconds.get(stage, 0.0) + time.monotonic() - started


def run_engines(
    run: Run,
    stage: str,
    engine: EngineConfig,
    units: Sequence[EngineUnit],
    following: Callable[[Receipt], Sequence[EngineUnit]] | None = None,
    successor: EngineConfig | None = None,
    rows_ahead: FindRows | None = None,
) -> None:
    """Runs units on engines of one model, which end with the stage.

    Args:
        run: run of the stage.
        stage: name of the stage in progress.
        engine: engine with the model.
        units: units to begin with.
        following: a committed receipt -> units that it makes possible, which go before others; None
            if all units are known from the start.
        successor: engine that starts when this stage has ended, if any.
        rows_ahead: finder of problems that are asked about before `following` makes their unit
            possible; None if none are.
    """
    started = time.monotonic()
    tally = tally_of(run, stage)
    prefer = run.config.dispatch.prefer
    ahead = Ahead(rows_of=rows_ahead, prefer=prefer) if rows_ahead is not None else None
    if units:
        with run.track(stage, len(units) if following is None else None) as show:

            def advance(receipt: Receipt) -> None:
                if following is not None:
                    next_units = following(receipt)
                    work.waiting.extendleft(next_units)
                    if ahead is not None and not next_units:
                        ahead.decided(receipt.group)
                show(receipt)

            makes_rows = stage in STAGES  # evaluation says which model it is about
            with engine_work(
                *(run, engine, units, tally, advance), makes_rows=makes_rows, ahead=ahead
            ) as work:
                weights = _read_ahead(run, work, engine, successor)
                dispatch(run.ledger, [work], weights.begin_in_tail)
            if ahead is not None and ahead.sentence:
                run.say(ahead.sentence)
    run.seconds[stage] = run.seconds.get(stage, 0.0) + time.monotonic() - started


def _read_ahead(
    run: Run, work: EngineWork, engine: EngineConfig, successor: EngineConfig | None
) -> ReadAhead:
    """The weights of the next model, to be read once this one has nothing more to begin."""
    after = successor or engine
    is_other = engine_directory(after) != engine_directory(engine)
    on_gpus = is_other and placement_on(after, run.nodes).device == "gpu"
    return ReadAhead(
        model=Path(engine_directory(after)),
        nodes=[node for node in run.nodes if node.gpus] if on_gpus else [],
        # Between two blocks of a race there may be such a moment too: then it begins early.
        is_tail=lambda: work.has_open and not work.waiting,
    )


def tally_of(run: Run, stage: str) -> Tally:
    """The Tally of a stage with the rows that any driver has committed.

    Raises:
        TooManyRejections: rejections are too many already; a run that was stopped for this stays
            stopped.
    """
    tally = Tally(limits=run.config.dispatch)
    for receipt in run.ledger.committed(stage):
        tally.add(receipt)
    tally.check(stage)
    return tally


def file_work(
    run: Run,
    function: Callable[..., Any],
    leases: Iterable[FileLease],
    tally: Tally,
    advance: Advance,
) -> FileWork:
    """The FileWork of these leases, each of which runs as a Ray task of this function."""

    def messages(*arguments: Any) -> Iterator[Receipts]:
        for receipt in function(*arguments):
            yield (receipt,)

    remote = ray.remote(num_cpus=1, max_retries=0, num_returns="streaming")(messages)
    config, inputs = ray.put(run.config), ray.put(run.inputs)
    return FileWork(
        ledger=run.ledger,
        submit=lambda lease: remote.remote(run.run_dir, config, inputs, lease),
        in_flight=max(2, int(ray.cluster_resources().get("CPU", 2))),
        tally=tally,
        advance=advance,
        waiting=deque(leases),
        say=run.say,
    )


@contextmanager
def engine_work(
    run: Run,
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
        engine: engine with the model.
        units: units to begin with.
        tally: tally of their stage.
        advance: see Work.
        is_shared: whether another model's engines may run at the same time.
        are_held: whether no engine starts before it is released.
        makes_rows: whether the dataset's rows depend on what the engines answer.
        ahead: work ahead of the units, if any.
    """
    replicas = _replicas(run, engine, is_shared, are_held, makes_rows)
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
    run: Run, engine: EngineConfig, is_shared: bool, are_held: bool, makes_rows: bool
) -> Replicas:
    """The Replicas of a model, none of which is started."""
    model = Path(engine_directory(engine)).name

    def say(line: str) -> None:
        run.say(f"{model}: {line}" if is_shared else line)

    def record(versions: Versions) -> None:
        if makes_rows:
            record_versions(run.run_dir, [versions])

    return Replicas(
        _starter(run, engine, is_shared),
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


def _starter(run: Run, engine: EngineConfig, is_shared: bool) -> Callable[[int, str], PlacedEngine]:
    """A function: replica, node -> a new engine, on cores that no other engine of the run has."""
    placement = placement_on(engine, run.nodes)
    prefix = f"{len(run.replicas)}-" if run.replicas else ""
    name = re.sub(r"[^\w.-]", "-", Path(engine_directory(engine)).name)[:60]

    def start(replica: int, node: str) -> PlacedEngine:
        is_kept = placement.device == "gpu" and node in {each.node_id for each in cluster_nodes()}
        living = [r.engine for replicas in run.replicas for r in replicas.all if r.engine]
        return start_engine(
            engine,
            placement,
            taken=[core for other in living for core in other.cores],
            is_shared=is_shared,
            node_id=node if is_kept else "",
            log=EngineLog(path=run.run_dir / FOLDER / f"{name}-{prefix}{replica}.log"),
            run_dir=run.run_dir,
            inputs=run.inputs,
            rationales=run.config.rationales,
            run_seed=run.config.run_seed,
            stall_seconds=run.config.dispatch.stall_seconds,
            request_seconds=run.config.dispatch.request_seconds,
        )

    return start
