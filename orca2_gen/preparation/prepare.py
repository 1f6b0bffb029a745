"""A base model's directory -> a student's, in one step: whole or not at all."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orca2_gen.chat import Rendering, TemplateError, load_chat, shape_of
from orca2_gen.preflight.headers import read_header
from orca2_gen.preflight.template import loaded_chat
from orca2_gen.preflight.weights import INDEX
from orca2_gen.preparation.new_rows import new_rows
from orca2_gen.preparation.pretrained import KEY, Pretrained, read_pretrained
from orca2_gen.preparation.tokens import Vocabulary, read_template, read_vocabulary, save_tokenizer
from orca2_gen.preparation.weight_files import copy_file, write_weights
from orca2_gen.run_directory.durable_files import sync_directory, write_bytes
from orca2_gen.run_directory.regular_files import read_regular

_TERMS = ("LICENSE*", "LICENCE*", "NOTICE*", "USE_POLICY*", "COPYING*")
"""Names of the files with a model's terms, most of which ask to be passed on with it."""
_MOST_BYTES = 16 << 20
_SPARE_BYTES = 64 << 20
"""Room for the tokenizer and the new rows."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Wish:
    """What a student directory is made of."""

    model: Path
    """The base model's directory."""
    out: Path
    """The directory to make."""
    template: str = "chatml"
    """`chatml`, or a file with a chat template."""
    end: str | None = None
    """The token that ends a turn in the template of a file."""
    tokens: tuple[str, ...] = ()
    """Further tokens to add, such as those around a thought."""
    begins: bool | None = None
    """Whether ChatML's conversations begin with bos; None if the model's files decide."""
    replaces_template: bool = False
    """Whether a template that the model has already is replaced."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """What was done, for people."""

    lines: tuple[str, ...]
    odd: tuple[str, ...]


def prepare(wish: Wish) -> Prepared:
    """Makes a student directory of a base model.

    Raises:
        ValueError: the model is not whole or of no use, a wish cannot be met, or `out` exists and
            is not empty; one line.
        OSError: a file cannot be written. Nothing is left of the directory then.
    """
    _check_place(wish.out)
    template = read_template(wish.template, wish.end, wish.tokens)
    model = read_pretrained(wish.model)
    said = _said_ends(model)
    old = read_vocabulary(wish.model, replaces_template=wish.replaces_template, ends=said)
    if wish.begins is not None:
        if wish.begins and old.tokenizer.bos_token_id is None:
            raise ValueError(f"--bos: the tokenizer in {wish.model} has no bos; leave --bos out")
        old = dataclasses.replace(old, begins=wish.begins)
    known = set(old.ids.values())
    ends = [each for each in (old.tokenizer.eos_token_id, *said) if each in known]
    _check_room(model, wish.out)
    base_end = old.tokenizer.eos_token
    with _whole_or_not_at_all(wish.out) as staging:
        new = save_tokenizer(old, template, staging)
        rows = _rows(model, old, new)
        _write_weights(model, staging, old, rows)
        num_rows = max([model.num_rows - 1, *rows]) + 1
        end = new.ids[template.end]
        _write_configs(model, staging, new, list(dict.fromkeys([end, *ends])), num_rows)
        for pattern in _TERMS:
            for path in sorted(wish.model.glob(pattern)):
                if path.is_file():
                    copy_file(path, staging / path.name)
        _check_saved(staging, new)
        odd = _check_chat(staging, template.end)
    before = dict(old.ids)
    named = [new.tokenizer.pad_token, *template.control, *template.further]
    return Prepared(
        lines=tuple(_lines(model, new, before, list(dict.fromkeys(named)), num_rows, base_end)),
        odd=tuple(odd),
    )


def _check_place(out: Path) -> None:
    if os.path.lexists(out) and (out.is_symlink() or not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"OUT: {out} exists and is no empty directory; give a new name")
    if not out.parent.is_dir():
        raise ValueError(f"OUT: there is no directory {out.parent}; make it first")


def _check_room(model: Pretrained, out: Path) -> None:
    needed = sum((model.directory / name).stat().st_size for name in model.files) + _SPARE_BYTES
    free = shutil.disk_usage(out.parent).free
    if free < needed:
        raise ValueError(
            f"OUT: {out.parent} has {free} bytes free, and the student takes {needed}; free some, "
            "or give another place"
        )


@contextmanager
def _whole_or_not_at_all(out: Path) -> Iterator[Path]:
    """A new directory beside `out`, which takes its place if nothing fails, and else is removed."""
    staging = out.with_name(f".{out.name}.preparing-{uuid.uuid4().hex[:8]}")
    staging.mkdir()
    try:
        yield staging
        sync_directory(staging)
        os.rename(staging, out)  # takes the place of an empty directory, and of nothing else
        sync_directory(out.parent)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise


def _rows(model: Pretrained, old: Vocabulary, new: Vocabulary) -> list[int]:
    """The rows that get new values: those of tokens that the base model was not trained with.

    An embedding often has more rows than its tokenizer has ids. A new token takes one of them, and
    its values, which no training has touched, are replaced like those of a row that is appended.
    """
    trained = {row for row in old.ids.values() if row < model.num_rows}
    fresh = {row for row in new.ids.values() if row not in trained}
    return sorted(fresh | set(range(model.num_rows, max(fresh, default=0) + 1)))


def _write_weights(model: Pretrained, staging: Path, old: Vocabulary, rows: list[int]) -> None:
    """Writes the files of weights; one that holds no row for tokens is copied as it is."""
    held = {name: read_header(model.directory / name) for name in model.files}
    changed: dict[str, dict[int, bytes]] = {}
    for stream, name in enumerate((model.embedding, *model.head) if rows else ()):
        file = next(file for file in model.files if name in held[file])
        made = new_rows(model.directory / file, name, old.ids.values(), len(rows), stream)
        changed[name] = {row: _bytes(each) for row, each in zip(rows, made, strict=True)}
    for name in model.same if rows else ():
        changed[name] = changed[model.embedding]
    for file in model.files:
        found = {name: changed[name] for name in held[file] if name in changed}
        if found:
            write_weights(model.directory / file, staging / file, found)
        else:
            copy_file(model.directory / file, staging / file)
    if model.index is not None:
        _write_index(model, staging)


def _bytes(row: Any) -> bytes:
    import torch

    return bytes(row.reshape(-1).contiguous().view(torch.uint8).numpy().tobytes())


def _write_index(model: Pretrained, staging: Path) -> None:
    written = [read_header(staging / name) for name in model.files]
    total = sum(tensor.num_bytes for file in written for tensor in file.values())
    values = sum(tensor.num_values for file in written for tensor in file.values())
    assert model.index is not None
    metadata = dict(model.index.get("metadata") or {}) | {"total_size": total}
    if "total_parameters" in metadata:
        metadata["total_parameters"] = values
    _write_json(staging / INDEX, {**model.index, "metadata": metadata})


def _said_ends(model: Pretrained) -> list[int]:
    """The ids that end a text of the base model, by its generation config and config."""
    said: list[Any] = []
    for body in (_generation(model.directory), model.config):
        value = body.get("eos_token_id")
        said += value if isinstance(value, list) else [value]
    return [each for each in said if type(each) is int]


def _generation(directory: Path) -> dict[str, Any]:
    """The generation config, which has been looked at; empty if there is none."""
    try:
        found: dict[str, Any] = json.loads(
            read_regular(directory / "generation_config.json", _MOST_BYTES)
        )
        return found
    except FileNotFoundError:
        return {}


def _write_configs(
    model: Pretrained, staging: Path, new: Vocabulary, ends: list[int], num_rows: int
) -> None:
    pad = new.tokenizer.pad_token_id
    config = dict(model.config) | {"eos_token_id": ends[0], "pad_token_id": pad}
    if num_rows != model.num_rows:
        config["vocab_size"] = num_rows
    _write_json(staging / "config.json", config)
    generation = _generation(model.directory) | {"eos_token_id": ends, "pad_token_id": pad}
    _write_json(staging / "generation_config.json", generation)


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    write_bytes(path, (json.dumps(value, indent=2) + "\n").encode())


def _check_saved(staging: Path, new: Vocabulary) -> None:
    """Checks that the saved tokenizer is read back as it is.

    Raises:
        ValueError: its class makes something else of its files.
    """
    saved = read_vocabulary(staging, replaces_template=True)
    wanted, found = (each.tokenizer.backend_tokenizer.to_str() for each in (new, saved))
    if wanted != found or saved.tokenizer.eos_token_id != new.tokenizer.eos_token_id:
        raise ValueError(
            f"{KEY}: {type(new.tokenizer).__name__} of transformers reads its own files back as "
            "another tokenizer; convert it with PreTrainedTokenizerFast"
        )


def _check_chat(staging: Path, end: str) -> list[str]:
    """What is odd about the template, once all is written.

    Raises:
        ValueError: a conversation cannot be rendered, or its answer is not closed with `end`.
    """
    load = load_chat.__wrapped__  # the directory gets another name
    odd = []
    chat = loaded_chat(KEY, str(staging), Rendering(), load)
    try:
        try:
            shape = shape_of(chat, ("system", "user", "assistant"))
        except TemplateError as error:
            if not error.can_fold:
                raise
            chat = loaded_chat(KEY, str(staging), Rendering(system="fold"), load)
            shape = shape_of(chat, ("system", "user", "assistant"))
            odd.append('the template takes no system text; set student.system = "fold"')
    except ValueError as error:
        reason = str(error).removeprefix(f"{staging}: ").splitlines()[0]
        raise ValueError(f"--template: {reason}") from error
    if end not in shape.texts[-1]:
        raise ValueError(
            f"--template: it closes an answer with {shape.texts[-1]!a:.80}, and --end is "
            f"{end!a:.80}; expected the token that closes an answer"
        )
    return odd


def _lines(
    model: Pretrained,
    new: Vocabulary,
    before: Mapping[str, int],
    named: list[str],
    num_rows: int,
    base_end: str | None,
) -> Iterator[str]:
    for verb, tokens in (
        ("added", [each for each in named if each not in before]),
        ("kept", [each for each in named if each in before]),
    ):
        if tokens:
            yield f"{verb} " + ", ".join(f"{each} {new.ids[each]}" for each in tokens)
    head = "a head of its own" if model.head else "a head tied to it"
    if num_rows != model.num_rows:
        yield f"{model.num_rows} -> {num_rows} rows in the embedding, {head}"
    else:
        yield f"{num_rows} rows in the embedding as before, {head}"
    tokenizer = new.tokenizer
    if tokenizer.chat_template.startswith("{{- bos_token -}}"):
        yield f"a conversation begins with {tokenizer.bos_token} {tokenizer.bos_token_id}"
    yield (
        f"an answer ends with {tokenizer.eos_token} {tokenizer.eos_token_id}"
        + (f", a text of the base model with {base_end} {before[base_end]}" if base_end else "")
    )
