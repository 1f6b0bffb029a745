"""A run directory -> its faults: every listed file, every id's path and the proof of erasure."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from pathlib import Path
from typing import Any

from orca2_gen.chat import load_chat
from orca2_gen.config.arguments import selection_rule
from orca2_gen.config.load import engine_directory, read_config
from orca2_gen.config.schema import Config
from orca2_gen.dataset import checked_manifest, read_examples
from orca2_gen.erasure import is_erased, prove
from orca2_gen.provenance.accounting import (
    RECORDS,
    Verification,
    account,
    account_problems,
    account_scores,
    check_taken_in,
    read_stage,
)
from orca2_gen.provenance.lineage import judged_cells, lineage_faults
from orca2_gen.provenance.recorded import Recorded, differences, read_recorded
from orca2_gen.provenance.stage_keys import PREVIOUS, prompt_digests, stage_keys
from orca2_gen.run_directory.digests import tokenizer_files_digest
from orca2_gen.run_directory.ledger import Ledger, read_ledger
from orca2_gen.run_directory.unlisted import unlisted_files
from orca2_gen.strategies import OWN_FILE, Strategies, load_strategies, strategies_json

MOST_FAULTS = 20
"""Rows that do not follow from their sources and are named, at most."""


def verify(run_dir: Path) -> Verification:
    """The faults of a run directory, by its files, the student's tokenizer and the strategies.

    Raises:
        ValueError: it is not a run directory, or its ledger cannot be read.
    """
    recorded = read_recorded(run_dir)
    config = read_config(run_dir / "config.json")
    strategies = recorded.strategies or load_strategies(config.strategies)
    ledger = read_ledger(run_dir)
    found = Verification(notes=list(ledger.notes))
    for path in unlisted_files(ledger):
        found.notes.append(f"{path} is not listed; the next run puts it aside")
    rows = {stage: read_stage(ledger, stage, found) for stage in RECORDS}
    account_problems(rows, found)
    account_scores(rows, found)
    wanted, judged, lost = judged_cells(ledger, selection_rule(config, strategies))
    if wanted:
        found.table.append(("judgements", wanted, judged, lost, 0))
    if wanted > judged + lost:
        found.notes.append("judgements: some answers are still open; run the same command again")
    for stage, previous in (("rationales", "problems"), ("examples", "rationales")):
        account(rows, stage, rows[previous].accepted, found)
        check_taken_in(ledger, stage, previous, found)
    _check_keys(recorded, ledger, found)
    _check_texts(recorded, config, strategies, ledger, found)
    faults = list(lineage_faults(ledger, config, strategies))
    found.findings += faults[:MOST_FAULTS]
    if len(faults) > MOST_FAULTS:
        found.findings.append(f"and {len(faults) - MOST_FAULTS} more faults of rows")
    _check_dataset(recorded, config, strategies, ledger, rows["examples"].accepted, found)
    return found


def _check_keys(recorded: Recorded, ledger: Ledger, found: Verification) -> None:
    """Checks that committed units have the keys of the determinants that config.json records."""
    if not set(PREVIOUS) <= recorded.stages.keys():
        return  # a run directory that a program of ours did not begin
    keys = stage_keys(recorded.stages)
    for stage in PREVIOUS:
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


def _check_tokenizer(
    recorded: Recorded, config: Config, manifest: dict[str, Any], found: Verification
) -> None:
    """Checks that the rows were encoded with the tokenizer that the examples' key was made of."""
    directory = engine_directory(config.student)
    now = tokenizer_files_digest(Path(directory))
    before = recorded.stages.get("examples", {}).get("tokenizer")
    encoded = manifest.get("tokenizer_files", now)  # older manifests do not say
    if encoded != before:
        found.findings.append(
            f"dataset: was encoded with a tokenizer or template in {directory} other than the one "
            "that the run recorded; make the run again in another run_dir"
        )
    elif now != before:
        found.notes.append(
            f"{directory}: a file of the tokenizer has changed since the run; what it encodes is "
            "compared with the rows"
        )


def _check_dataset(
    recorded: Recorded,
    config: Config,
    strategies: Strategies,
    ledger: Ledger,
    examples: Counter[Any],
    found: Verification,
) -> None:
    root = ledger.run_dir / "dataset"
    if not root.exists():
        found.notes.append("dataset: not written yet")
        return
    try:
        manifest = checked_manifest(root)
    except ValueError as error:
        found.findings.append(str(error))
        return
    chat = load_chat(engine_directory(config.student))
    rows = list(read_examples(root, manifest))
    ids = Counter(example.problem_id for example in rows)
    if ids != examples:
        found.findings.append(
            f"dataset: holds {ids.total()} rows whose ids are not those of the {examples.total()} "
            "examples"
        )
    found.table.append(("dataset", examples.total(), len(rows), 0, 0))
    said = manifest["summary"]["rows"], sum(entry["rows"] for entry in manifest["files"])
    if said != (len(rows), len(rows)):
        found.findings.append(
            f"dataset: its manifest counts {said} rows, its files hold {len(rows)}"
        )
    _check_tokenizer(recorded, config, manifest, found)
    if manifest["prompts"] != config.erasure.prompts:
        found.findings.append(
            f"dataset: its manifest says prompts are {manifest['prompts']}, the run's config says "
            f"{config.erasure.prompts}"
        )
    if manifest["prompts"] != "erased":
        found.notes.append(
            f"dataset: prompts are {manifest['prompts']}, so there is no erasure to prove"
        )
        return
    if manifest["tokenizer_digest"] != chat.digest:
        found.findings.append(
            "dataset: was encoded with a tokenizer or template other than the student's"
        )
    if manifest["proof"] is None or manifest["proof"] != json.loads(
        json.dumps(dataclasses.asdict(prove(rows, chat=chat, strategies=strategies)))
    ):
        found.findings.append("dataset: the proof in its manifest is not the proof of its rows")
    unproved = [e.problem_id for e in rows if not is_erased(e, chat=chat, strategies=strategies)]
    if unproved:
        found.findings.append(
            f"dataset: {len(unproved)} prompts are not erased, e.g. {unproved[0]}"
        )
