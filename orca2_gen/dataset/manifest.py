"""RUN/dataset/manifest.json: what a dataset directory holds, and the proof about it.

Whoever reads a dataset reads this file first; see `checked_manifest`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from orca2_gen.chat import Rendering
from orca2_gen.dataset.facts import RunFacts
from orca2_gen.dataset.figures import DatasetSummary, RowFigures
from orca2_gen.dataset.proof import ErasureProof
from orca2_gen.dataset.shards import examples_in, read_shard
from orca2_gen.records import Example
from orca2_gen.run_directory.arrow_files import DamagedFile, FileEntry, check_file
from orca2_gen.run_directory.json_files import parsed, read_json

MANIFEST_VERSION = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """The contents of a manifest. A dataset from elsewhere need not have the fields with a
    default.
    """

    version: int
    prompts: str
    """erased, instruction_kept or foreign."""
    tokenizer_digest: str
    """Digest of the tokenizer and template that encoded the rows."""
    files: tuple[FileEntry, ...]
    """The shards, in order."""
    rendering: Rendering | None = None
    """How the template rendered; older versions, which left it out, asked the clock."""
    descriptions: tuple[FileEntry, ...] = ()
    """The files that `load_from_disk` also reads, and the card; older versions left the card
    out."""
    proof: ErasureProof | None = None
    """None unless prompts are erased."""
    summary: DatasetSummary | None = None
    figures: RowFigures | None = None
    """Further figures of the rows; older versions left them out."""
    facts: RunFacts | None = None
    """What the run says of the dataset; None of a dataset that no run made, or an older one."""
    card_version: int = 0
    """The CARD_VERSION of the card and croissant.json; older versions, which had none, wrote a card
    of the summary alone."""
    plan_digest: str = ""
    """Digest of the plan that the dataset was made from."""
    examples_key: str = ""
    """Key of the stage of the examples."""
    tokenizer_files: str | None = None
    """Digest of the tokenizer's files, as the examples' key holds it; older versions left it
    out."""
    name: str = ""
    """The name of the run; older versions left it out."""
    digest: str = ""
    """Digest of the whole manifest, and so of all files in it. It is computed on reading."""

    @property
    def listed(self) -> tuple[FileEntry, ...]:
        """Every file that the manifest lists."""
        return (*self.files, *self.descriptions)


_MANIFEST = TypeAdapter(Manifest)


def checked_manifest(root: Path) -> Manifest:
    """The manifest of a dataset directory; every file it lists has the size and SHA-256 it says.

    Raises:
        ValueError: the manifest is absent or of another version.
        DamagedFile: it is no manifest of ours, or a file is not what it says.
    """
    manifest = read_manifest(root)
    for entry in manifest.listed:
        check_file(root, entry)
    return manifest


def read_manifest(root: Path) -> Manifest:
    """The manifest of a dataset directory, whose files are not looked at.

    Raises:
        ValueError: as `checked_manifest`.
    """
    path = root / "manifest.json"
    try:
        body = read_json(path)
    except FileNotFoundError:
        raise ValueError(
            f"{root} holds no manifest.json: it is not a finished dataset; "
            "run `orca2 run` to the end"
        ) from None
    except DamagedFile as error:
        raise DamagedFile(f"{error}; {_AGAIN}") from error
    version = body.get("version") if isinstance(body, dict) else None
    if isinstance(version, int) and version != MANIFEST_VERSION:
        raise ValueError(
            f"{path} has version {version}, this program reads {MANIFEST_VERSION}; {_AGAIN}"
        )
    try:
        manifest = parsed(path, body, _MANIFEST)
    except DamagedFile as error:
        raise DamagedFile(f"{error}; {_AGAIN}") from error
    digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    return dataclasses.replace(manifest, digest=digest)


def manifest_of(body: bytes) -> Manifest:
    """The manifest that is to be written, as it will be read."""
    return _MANIFEST.validate_json(body, strict=True)


def read_examples(root: Path, manifest: Manifest) -> Iterator[Example]:
    """The examples of a dataset directory, shard by shard, each checked before it is read."""
    for entry in manifest.files:
        for batch in read_shard(root, entry):
            yield from examples_in(batch)


_AGAIN = "make the dataset again with `orca2 run`"
