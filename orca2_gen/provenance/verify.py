"""A run directory -> its faults: every listed file, every id's path and the proof of erasure."""

from __future__ import annotations

import os
from pathlib import Path

from orca2_gen.config.arguments import selection_rule
from orca2_gen.config.load import read_config
from orca2_gen.config.schema import Config
from orca2_gen.provenance.accounting import (
    RECORDS,
    StageRows,
    Verification,
    account_examples,
    account_problems,
    account_rationales,
    account_scores,
    check_taken_in,
    read_stage,
)
from orca2_gen.provenance.dataset_alone import Beside, is_dataset, verify_dataset
from orca2_gen.provenance.dataset_faults import check_dataset
from orca2_gen.provenance.ending_faults import ending_faults
from orca2_gen.provenance.export_faults import is_export, verify_export
from orca2_gen.provenance.lineage import judged_cells, lineage_faults, unjudged_evaluations
from orca2_gen.provenance.recorded import Recorded, differences, read_recorded
from orca2_gen.provenance.stage_keys import PREVIOUS, prompt_digests, stage_keys
from orca2_gen.provenance.unit_faults import Places
from orca2_gen.run_directory.arrow_files import DamagedFile
from orca2_gen.run_directory.ledger import Ledger, read_ledger
from orca2_gen.run_directory.regular_files import shown
from orca2_gen.run_directory.unlisted import unlisted_files
from orca2_gen.strategies import (
    CAUTIOUS,
    EMPTY,
    OWN_FILE,
    Strategies,
    load_strategies,
    strategies_json,
)

MOST_FAULTS = 20
"""Rows that do not follow from their sources and are named, at most."""


def verify(run_dir: Path, beside: Beside | None = None) -> Verification:
    """The faults of a run directory, by its files, the student's tokenizer and the strategies; of
    a dataset that left its run, or of an export, by its own files.

    One fault hides no other: what rests on a damaged file is not looked at, all else is.

    Args:
        run_dir: the directory.
        beside: what proves more of a dataset that left its run.

    Raises:
        ValueError: it is none of them, or one that needs nothing beside it.
    """
    if not os.path.isdir(run_dir):
        raise ValueError(f"{shown(run_dir)} is not a directory; give one that a run wrote")
    if beside not in (None, Beside()) and (is_export(run_dir) or not is_dataset(run_dir)):
        raise ValueError(
            f"{run_dir} is not a dataset that left its run, and --model and --strategies prove "
            "nothing of it; leave them out"
        )
    if is_export(run_dir):
        return Verification(findings=verify_export(run_dir))
    if is_dataset(run_dir):
        return verify_dataset(run_dir, beside or Beside())
    found = Verification()
    made_of = _read_config(run_dir, found)
    try:
        ledger = read_ledger(run_dir)
    except (DamagedFile, OSError) as error:
        found.findings.append(str(error))
        return found
    found.notes += ledger.notes
    for path in unlisted_files(ledger):
        found.notes.append(f"{path} is not listed; the next run puts it aside")
    known = (CAUTIOUS, EMPTY, *(made_of[2].names if made_of is not None else ()))
    places = Places(messages=frozenset(known))
    rows = {stage: read_stage(ledger, stage, places, found) for stage in RECORDS}
    account_problems(rows, found)
    account_scores(rows, found)
    if made_of is not None:
        _check_judgements(ledger, *made_of, found)
    account_rationales(rows, found)
    account_examples(rows, found)
    for stage, previous in (("rationales", "problems"), ("examples", "rationales")):
        check_taken_in(ledger, stage, previous, found)
    if made_of is not None:
        _check_origins(ledger, *made_of, rows, found)
    return found


def _read_config(run_dir: Path, found: Verification) -> tuple[Recorded, Config, Strategies] | None:
    """What config.json says; None, with a finding, if it is damaged.

    Raises:
        ValueError: it is not a run directory.
    """
    try:
        recorded = read_recorded(run_dir)
        config = read_config(run_dir / "config.json")
        return recorded, config, recorded.strategies or load_strategies(config.strategies)
    except FileNotFoundError:
        if not (run_dir / "ledger.jsonl").exists():
            raise ValueError(
                f"{run_dir} holds no config.json: not a run directory; give one that a run wrote"
            ) from None
        found.findings.append(f"{run_dir / 'config.json'} is absent; restore it from a copy")
    except ValueError as error:
        found.findings.append(str(error))
    return None


def _check_judgements(
    ledger: Ledger,
    recorded: Recorded,
    config: Config,
    strategies: Strategies,
    found: Verification,
) -> None:
    wanted, judged, lost = judged_cells(ledger, selection_rule(config, strategies))
    if wanted:
        found.table.append(("judgements", wanted, judged, lost, 0))
    if wanted > judged + lost:
        found.notes.append("judgements: some answers are still open; run the same command again")
    if unjudged := unjudged_evaluations(ledger):
        found.notes.append(
            f"evaluation: {len(unjudged)} units hold open answers that no judge has read; run "
            "`orca2 evaluate` again"
        )


def _check_origins(
    ledger: Ledger,
    recorded: Recorded,
    config: Config,
    strategies: Strategies,
    rows: dict[str, StageRows],
    found: Verification,
) -> None:
    """Checks what only config.json can say: keys, texts, and what each row was made from."""
    _check_keys(recorded, ledger, found)
    _check_texts(recorded, config, strategies, ledger, found)
    faults = list(lineage_faults(ledger, config, strategies))
    faults += ending_faults(ledger, recorded, config)
    found.findings += faults[:MOST_FAULTS]
    if len(faults) > MOST_FAULTS:
        found.findings.append(f"and {len(faults) - MOST_FAULTS} more faults of rows")
    try:
        check_dataset(recorded, config, strategies, ledger, rows["examples"].accepted, found)
    except ValueError as error:  # of a tokenizer that lies outside the run directory
        found.findings.append(f"dataset: {error}")


def _check_keys(recorded: Recorded, ledger: Ledger, found: Verification) -> None:
    """Checks that committed units have the keys of the determinants that config.json records."""
    committed = [stage for stage in PREVIOUS if ledger.committed(stage)]
    if absent := [stage for stage in PREVIOUS if stage not in recorded.stages]:
        if committed:
            found.findings.append(
                f"config.json does not say what {', '.join(absent)} was made of, so no key can be "
                "compared; restore it from a copy"
            )
        return
    keys = stage_keys(recorded.stages)
    for stage in committed:
        others = [r.unit for r in ledger.committed(stage) if r.stage_key != keys[stage]]
        if others:
            found.findings.append(
                f"{stage}: config.json records other determinants than {len(others)} units were "
                f"made from, e.g. {others[0]}; restore it from a copy"
            )


def _check_texts(
    recorded: Recorded, config: Config, strategies: Strategies, ledger: Ledger, found: Verification
) -> None:
    """Checks that the texts which rows are compared with are those behind the stages' keys."""
    prompts = prompt_digests(strategies)
    for stage in ("problems", "evaluation_problems"):  # their keys are part of all the others
        before = recorded.stages.get(stage, {}).get("prompts")
        if ledger.committed(stage) and (changed := differences(before, prompts)):
            found.findings.append(
                f"{stage}: made with other strategies than those read now: {changed}; restore "
                f"{config.strategies or OWN_FILE}"
            )
    if recorded.strategies is not None and Path(config.strategies or OWN_FILE).is_file():
        try:
            now = strategies_json(load_strategies(config.strategies))
        except ValueError:
            now = {}
        if now != strategies_json(strategies):
            found.notes.append(
                f"{config.strategies or OWN_FILE} has changed since the run; its rows are "
                "compared with the texts that config.json recorded"
            )
