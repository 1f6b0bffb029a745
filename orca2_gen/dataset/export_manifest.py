"""OUT/export.json: what an export holds, and what it was made of. It is written last."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from orca2_gen.run_directory.arrow_files import DamagedFile, FileEntry
from orca2_gen.run_directory.json_files import parsed, read_json

EXPORT, CARD, INFO = "export.json", "README.md", "dataset_info.json"
EXPORT_VERSION = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportManifest:
    """The contents of export.json."""

    version: int
    made_by: str
    """Versions of the programs that wrote it; other ones may write other bytes."""
    shape: str
    format: str
    prompts: str
    """As the source's manifest says: erased, instruction_kept or foreign."""
    source_digest: str
    """Digest of the source's manifest, and so of all its files."""
    tokenizer_digest: str
    """Digest of the tokenizer and template that encoded the source's rows."""
    rows: int
    input_tokens: int
    trained_tokens: int
    """Tokens with a loss in the source's rows, which a trainer should count too."""
    files: tuple[FileEntry, ...]
    """The rows' files, in order."""
    descriptions: tuple[FileEntry, ...]
    """The card, and LLaMA-Factory's dataset_info.json where it reads the shape."""
    problems: int | None = None
    """The problems of the rows, of which one may have several, as the source's manifest counts."""
    other_tokens: int | None = None
    """Rows whose text gives a trainer other tokens than the row has; None if nothing was compared,
    as there is nothing to compare in the shape `tokens`."""
    other_tokens_in: str = ""
    """The name of the first of them."""
    verdict: str = ""
    """What the source's proof of erasure says, in one line; empty if it has none."""
    unpaired: int | None = None
    """Rows of the dataset without a pair, since no incorrect answer to their problem is kept; None
    in shapes other than `preference`."""

    @property
    def listed(self) -> tuple[FileEntry, ...]:
        """Every file that the manifest lists."""
        return (*self.files, *self.descriptions)

    def body(self) -> bytes:
        """The bytes of export.json."""
        return json_bytes(dataclasses.asdict(self))


_EXPORT = TypeAdapter(ExportManifest)


def read_export(directory: Path) -> ExportManifest:
    """The manifest of an export, whose files are not looked at.

    Raises:
        FileNotFoundError: the directory holds no export.json.
        DamagedFile: it is no export.json of ours.
        ValueError: it is of another version.
    """
    path = directory / EXPORT
    body = read_json(path)
    version = body.get("version") if isinstance(body, dict) else None
    if isinstance(version, int) and version != EXPORT_VERSION:
        raise ValueError(
            f"{path} has version {version}, this program reads {EXPORT_VERSION}; export again"
        )
    manifest = parsed(path, body, _EXPORT)
    names = [entry.path for entry in manifest.listed]
    if len({*names, EXPORT}) <= len(names) or any("/" in name for name in names):
        raise DamagedFile(f"{path} lists a file twice or outside of the directory; export again")
    return manifest


def json_bytes(value: object) -> bytes:
    """The value as JSON for people too."""
    return (json.dumps(value, indent=2, sort_keys=True) + "\n").encode()
