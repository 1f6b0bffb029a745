"""A dataset's card, croissant.json, figures and facts against what they were made of."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from orca2_gen.dataset.card import CARD_VERSION, PROMPTS, card_of, older_card_of
from orca2_gen.dataset.croissant import CROISSANT, croissant_of
from orca2_gen.dataset.manifest import Manifest
from orca2_gen.dataset.shards import features_of, schema_of
from orca2_gen.dataset.verdict import verdict_of
from orca2_gen.dataset.write import json_bytes
from orca2_gen.provenance.accounting import Verification
from orca2_gen.provenance.dataset_rows import DatasetRows
from orca2_gen.provenance.recorded import Recorded
from orca2_gen.provenance.run_facts import run_facts
from orca2_gen.run_directory.arrow_files import DamagedFile
from orca2_gen.run_directory.ledger import Ledger
from orca2_gen.run_directory.regular_files import UnusableFile, read_regular

CARD = "README.md"
_MOST_BYTES = 64 << 20
_AGAIN = "make the dataset again"


def card_faults(root: Path, manifest: Manifest, name: str, found: Verification) -> Iterator[str]:
    """A line for each of card and croissant.json that does not say what the manifest says."""
    if manifest.summary is None:
        yield f"{root / 'manifest.json'} lacks summary"
        return
    listed = {entry.path for entry in manifest.descriptions}
    if manifest.figures is None:
        if manifest.summary.prompts in PROMPTS:  # else edited, which is found with its rows
            expected = older_card_of(manifest.summary, name, manifest.proof)
            is_older = CARD in listed
            yield from _text_faults(root, CARD, expected, manifest, found, is_older=is_older)
        return
    if not _has_its_columns(root, manifest):
        return  # `figure_faults` says so, and of other columns there may be no croissant.json
    if manifest.name != name:
        yield f"{root / 'manifest.json'} names another dataset than dataset_info.json"
    if manifest.card_version > CARD_VERSION:
        found.notes.append(
            f"{root}: another version of this program made its card, which is compared with "
            "its digest alone"
        )
        return
    is_older = 0 < manifest.card_version < CARD_VERSION
    for file, body in (
        (CARD, card_of(manifest)),
        (CROISSANT, json_bytes(croissant_of(manifest))),
    ):
        if file not in listed:
            yield f"{root / 'manifest.json'} does not list {file}"
        yield from _text_faults(root, file, body, manifest, found, is_older=is_older)


def _text_faults(
    root: Path,
    name: str,
    expected: bytes,
    manifest: Manifest,
    found: Verification,
    *,
    is_older: bool,
) -> Iterator[str]:
    try:
        body = read_regular(root / name, _MOST_BYTES)
    except FileNotFoundError:
        yield f"{root / name} is absent"
        return
    except UnusableFile as error:
        yield str(error)
        return
    if body == expected:
        return
    line = f"{root / name} is not the {_NAMES[name]} that this program makes of the manifest"
    if name == CARD and not _states_verdict(body, manifest):
        yield f"{root / CARD} does not state the verdict of the proof in manifest.json"
    elif is_older:
        found.notes.append(line)  # its digest is right: an older version worded it
    else:
        yield f"{line}; {_AGAIN}"


def _states_verdict(card: bytes, manifest: Manifest) -> bool:
    """Whether a card has the verdict of the manifest's proof; those of older versions had none."""
    if manifest.proof is None or manifest.proof.is_older:
        return True
    return verdict_of(manifest.proof).encode() in card


_NAMES = {CARD: "card", CROISSANT: "description"}


def _has_its_columns(root: Path, manifest: Manifest) -> bool:
    """Whether the figures of a manifest name the columns of its shards."""
    assert manifest.figures is not None
    try:
        features = features_of(schema_of(root, manifest.files[0]))
    except (DamagedFile, IndexError):
        return False
    return manifest.figures.columns == tuple(features.items())


def figure_faults(root: Path, manifest: Manifest, rows: DatasetRows) -> Iterator[str]:
    """A line for each figure of the manifest that is not that of the rows."""
    if manifest.figures is None:
        if manifest.facts is not None or manifest.card_version:
            yield f"{root / 'manifest.json'} lacks figures"
        return
    try:
        schema = schema_of(root, manifest.files[0])
    except (DamagedFile, IndexError) as error:
        yield f"{root}: its figures cannot be compared: {error}"
        return
    expected = _plain(rows.counted.figures(schema))
    for name, said in _plain(manifest.figures).items():
        if said != expected[name]:
            yield (
                f"{root / 'manifest.json'}: figures.{name} is {_short(said)}, its rows give "
                f"{_short(expected[name])}; {_AGAIN}"
            )


def fact_faults(manifest: Manifest, recorded: Recorded, ledger: Ledger) -> Iterator[str]:
    """A line for each fact of the manifest that is not the run's."""
    if manifest.figures is None:
        return  # of an older version, which told none
    try:
        facts = run_facts(recorded, ledger)
    except DamagedFile:
        return  # a finding of its own
    if facts is None or manifest.facts is None:
        if facts != manifest.facts:
            which = "no facts of the run" if manifest.facts is None else "facts of no run"
            yield f"dataset: its manifest holds {which}; {_AGAIN}"
        return
    expected = _plain(facts)
    for name, said in _plain(manifest.facts).items():
        if said != expected[name]:
            yield (
                f"dataset: facts.{name} in its manifest is {_short(said)}, the run says "
                f"{_short(expected[name])}; {_AGAIN}"
            )


def _plain(record: Any) -> dict[str, Any]:
    """The record as JSON has it, where a tuple and a list are one."""
    plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(record)))
    return plain


def _short(value: Any) -> str:
    text = json.dumps(value, sort_keys=True)
    return text if len(text) <= 80 else text[:77] + "..."
