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
    check_inputs,
    read_stage,
)
from orca2_gen.provenance.lineage import judged_cells, lineage_faults
from orca2_gen.provenance.recorded import VERSIONS, Recorded, differences, read_recorded
from orca2_gen.provenance.stage_keys import cautious_digest, text_digests
from orca2_gen.run_directory.digests import tokenizer_files_digest
from orca2_gen.run_directory.ledger import Ledger, read_ledger, unlisted_files
from orca2_gen.strategies import OWN_FILE, Strategies, load_strategies

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
    found = Verification(notes=list(ledger.torn))
    for path in unlisted_files(ledger):
        found.notes.append(f"{path} is not listed; the next run removes it")
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
        check_inputs(ledger, stage, previous, found)
    _check_inputs_are_recorded(recorded, config, strategies, ledger, found)
    faults = list(lineage_faults(ledger, config, strategies))
    found.findings += faults[:MOST_FAULTS]
    if len(faults) > MOST_FAULTS:
        found.findings.append(f"and {len(faults) - MOST_FAULTS} more faults of rows")
    _check_dataset(run_dir, config, strategies, rows["examples"].accepted, found)
    return found


def _check_inputs_are_recorded(
    recorded: Recorded,
    config: Config,
    strategies: Strategies,
    ledger: Ledger,
    found: Verification,
) -> None:
    """Checks that the texts and tokenizer in use are those that the stages' keys were made of."""
    # A raised version says nothing about the texts.
    texts = {name: each for name, each in text_digests(strategies).items() if name not in VERSIONS}
    tokenizer = tokenizer_files_digest(Path(engine_directory(config.student)))
    examples = {"cautious_message": cautious_digest(strategies), "tokenizer": tokenizer}
    now = {"scores": texts, "rationales": texts, "examples": examples}
    for stage, wanted in now.items():
        before = recorded.stages.get(stage, {})
        if ledger.committed(stage) and (
            changed := differences({name: before.get(name) for name in wanted}, wanted)
        ):
            found.findings.append(
                f"{stage}: made with strategies or a tokenizer other than those read now: "
                f"{changed}; restore the file"
            )
    if recorded.strategies is not None and Path(config.strategies or OWN_FILE).is_file():
        try:
            is_same = load_strategies(config.strategies) == strategies
        except ValueError:
            is_same = False
        if not is_same:
            found.notes.append(
                f"{config.strategies or OWN_FILE} has changed since the run; its rows are "
                "compared with the texts that config.json recorded"
            )


def _check_dataset(
    run_dir: Path,
    config: Config,
    strategies: Strategies,
    examples: Counter[Any],
    found: Verification,
) -> None:
    root = run_dir / "dataset"
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
