"""A run for notebooks: `load_config`, `preflight`, `run`, `load_run`, `selections`, `rows`.

examples/notebook.py uses all of them.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orca2_gen.commands.preflight import asked_inputs, first_answers
from orca2_gen.config.load import load_config as load_config
from orca2_gen.config.schema import Config
from orca2_gen.provenance.accounting import RECORDS
from orca2_gen.records import Selection
from orca2_gen.run_directory.arrow_files import read_records
from orca2_gen.run_directory.claim import no_run
from orca2_gen.run_directory.ledger import Ledger, committed_rows, read_ledger

if TYPE_CHECKING:
    from orca2_gen.dataset.figures import DatasetSummary


@dataclass(frozen=True, kw_only=True, slots=True)
class Answered:
    """What the files of one engine, or of the student's training, say."""

    about: str
    """Key of the config, and directory."""
    facts: tuple[str, ...]
    odd: tuple[str, ...]
    """What may be a mistake."""


def preflight(config: Config) -> list[Answered]:
    """What a run asks of the models' files before anything starts; it takes seconds.

    Raises:
        ValueError: something cannot work; one line that names the key and what to do.
    """
    _read_here()
    return [
        Answered(about=about, facts=facts, odd=odd) for about, facts, odd in first_answers(config)
    ]


def run(config: Config) -> DatasetSummary:
    """The figures of a run's dataset, made as `orca2 run` makes it; a second call goes on.

    Raises:
        RunInUse, TooManyRejections, ValueError: as the command says in one line.
    """
    from orca2_gen.config.arguments import roles_of_run
    from orca2_gen.console.progress import shown
    from ray_jobs.pipeline import run_all
    from ray_jobs.run import open_run

    _read_here()
    inputs, track = asked_inputs(config), shown(Path(config.run_dir))
    with open_run(config, track, roles=roles_of_run(config), inputs=inputs) as opened:
        summary: DatasetSummary = run_all(opened)
    return summary


def _read_here() -> None:
    """Makes this process read models' files itself: another would run a script's lines again."""
    importlib.import_module("transformers")  # own_process.py looks for it


def load_run(run_dir: str | Path) -> Ledger:
    """What a run has committed, whether it goes on or has ended.

    Raises:
        ValueError: it is no run directory.
    """
    ledger = read_ledger(Path(run_dir))
    if not ledger.units:
        raise no_run(run_dir)
    return ledger


def selections(ledger: Ledger) -> list[Selection]:
    """The choice of each group, with mean, interval and tokens of every strategy.

    Raises:
        DamagedFile: a file is not what the ledger says.
    """
    return committed_rows(ledger, "selections", Selection)


def rows(ledger: Ledger, stage: str = "examples") -> Iterator[Any]:
    """The accepted rows of a stage, one file at a time, as the records of orca2_gen/records.py.

    Args:
        ledger: what `load_run` returned.
        stage: problems, scores, judgements, selections, rationales, examples,
            evaluation_problems or evaluation.

    Raises:
        DamagedFile: a file is not what the ledger says.
        ValueError: there is no such stage.
    """
    if stage not in RECORDS:
        raise ValueError(f"{stage!r} is no stage; expected one of {', '.join(RECORDS)}")
    return _rows(ledger, stage, RECORDS[stage])


def _rows(ledger: Ledger, stage: str, record: type[Any]) -> Iterator[Any]:
    for receipt in ledger.committed(stage):
        yield from read_records(ledger.run_dir, receipt.accepted, record)
