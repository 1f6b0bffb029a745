"""One stage of a run: Ray tasks or engines work on its leases."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import ray

from orca2_gen.config.engine import EngineConfig
from orca2_gen.config.load import engine_directory
from orca2_gen.foresight.amounts import Amount, KnownUnits, UnitRows
from orca2_gen.run_directory.units import STAGES, Receipt
from ray_jobs.dispatch.file_work import FileWork
from ray_jobs.dispatch.leases import EngineUnit, FileLease
from ray_jobs.dispatch.loop import dispatch
from ray_jobs.dispatch.receipts import Advance, Receipts, Tally
from ray_jobs.engines.ahead import Ahead, FindRows
from ray_jobs.engines.placement import placement_on
from ray_jobs.engines.read_ahead import ReadAhead
from ray_jobs.engines.work import EngineWork
from ray_jobs.model_engines import engine_work
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
    amount: Amount = None,
    earlier: Iterable[Receipt] | None = None,
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
        amount: what it has to do, so that the time left is told; None is the units' requests, and
            unknown if others follow.
        earlier: receipts of its units that other drivers have committed; None is all of the stage.
    """
    started = time.monotonic()
    tally = tally_of(run, stage, earlier)
    prefer = run.config.dispatch.prefer
    ahead = Ahead(rows_of=rows_ahead, prefer=prefer) if rows_ahead is not None else None
    if units:
        if amount is None and following is None:
            amount = KnownUnits(units={u.name.unit: UnitRows(num=u.num_requests) for u in units})
        with run.track(stage, amount) as show:

            def advance(receipt: Receipt) -> None:
                if following is not None:
                    next_units = following(receipt)
                    work.waiting.extendleft(next_units)
                    if ahead is not None and not next_units:
                        ahead.decided(receipt.group)
                show(receipt)

            makes_rows = stage in STAGES  # evaluation says which model it is about
            with engine_work(
                *(run, stage, engine, units, tally, advance), makes_rows=makes_rows, ahead=ahead
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


def tally_of(run: Run, stage: str, earlier: Iterable[Receipt] | None = None) -> Tally:
    """The Tally of a stage with the rows that any driver has committed, `earlier` if it is given.

    Raises:
        TooManyRejections: rejections are too many already; a run that was stopped for this stays
            stopped.
    """
    tally = Tally(limits=run.config.dispatch)
    for receipt in run.ledger.committed(stage) if earlier is None else earlier:
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
