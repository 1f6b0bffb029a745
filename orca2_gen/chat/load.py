"""A model directory -> its Chat."""

from __future__ import annotations

import copy
import dataclasses
import functools
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orca2_gen.chat.chat import Chat
from orca2_gen.chat.markers import is_marker
from orca2_gen.chat.rendered_texts import rendered_texts
from orca2_gen.chat.rendering import PLAIN, Rendering
from orca2_gen.chat.thinking import answering_of, thinking_of
from orca2_gen.run_directory.digests import TOKENIZER_FILES

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_ROW = (("system", "user"), ("system", "user", "assistant"))
"""Roles of the conversations that make a training row."""


@functools.lru_cache(maxsize=8)
def load_chat(model_dir: str, rendering: Rendering = PLAIN) -> Chat:
    """The Chat of a model directory, whose template renders in this way.

    Raises:
        ValueError: the directory holds no tokenizer, or one without a fast (tokenizers) backend or
            without a chat template.
    """
    from transformers import AutoTokenizer

    files = [name for name in TOKENIZER_FILES if name != "generation_config.json"]
    if not any((Path(model_dir) / name).is_file() for name in files):
        raise ValueError(
            f"{model_dir} holds no tokenizer (none of {', '.join(files)}); give a model directory"
        )
    tokenizer = AutoTokenizer.from_pretrained(
        model_dir, local_files_only=True, trust_remote_code=False
    )
    if not getattr(tokenizer, "is_fast", False):
        raise ValueError(
            f"{model_dir}: the tokenizer has no tokenizer.json; convert it with save_pretrained "
            "first"
        )
    if not tokenizer.chat_template:
        raise ValueError(
            f"{model_dir} has no chat template; add chat_template.jinja or take a chat model"
        )
    specification = json.loads(tokenizer.backend_tokenizer.to_str())
    control = set(tokenizer.all_special_ids)
    added = tokenizer.added_tokens_decoder  # built anew at each call
    control |= {i for i, token in added.items() if not _is_blank(token)}
    if tokenizer.unk_token_id is not None and tokenizer.unk_token_id != tokenizer.eos_token_id:
        control.discard(tokenizer.unk_token_id)  # stands for a rare character; it controls nothing
    end_ids = _end_ids(Path(model_dir), tokenizer)
    digest = _digest(specification, tokenizer.chat_template, end_ids)
    chat = Chat(
        directory=model_dir,
        rendering=rendering,
        tokenizer=tokenizer,
        template_tokenizer=_without_leading_space(specification),
        data_tokenizer=_data_tokenizer(specification),
        control_ids=frozenset(control),
        marker_ids=frozenset(i for i in control if is_marker(added.get(i))),
        end_ids=end_ids,
        end_id=min(end_ids) if tokenizer.eos_token_id is None else tokenizer.eos_token_id,
        digest=digest,
        undated_digest=digest,
        has_older_data=bool(_blanks(specification)) or _has_prefix_space(specification),
    )
    chat = dataclasses.replace(chat, thinking=thinking_of(chat))
    chat = dataclasses.replace(chat, answering=answering_of(chat))
    rendered = rendered_texts(chat, _ROW)
    if "sha256" not in rendered:
        return chat
    digest = hashlib.sha256(f"{chat.digest} {rendered['sha256']}".encode()).hexdigest()
    return dataclasses.replace(chat, digest=digest)


def tokenizer_digest(model_dir: str) -> str:
    """The digest of a model directory's tokenizer and template, as manifests hold it."""
    return load_chat(model_dir).digest


def _without_leading_space(specification: dict[str, Any]) -> Tokenizer:
    """A tokenizer of this JSON that adds neither special tokens nor a leading space.

    Segments are encoded one by one; a leading space at each seam would put text into the prompt
    that no conversation holds.
    """
    from tokenizers import Tokenizer

    spec = copy.deepcopy(specification) | {
        "post_processor": None,
        "truncation": None,
        "padding": None,
    }
    spec["normalizer"] = _without_prepend(spec["normalizer"])
    for splitter in _parts(spec["pre_tokenizer"], "pretokenizers"):
        if splitter["type"] == "Metaspace":
            splitter["prepend_scheme"] = "never"
        elif splitter["type"] == "ByteLevel":
            splitter["add_prefix_space"] = False
    return Tokenizer.from_str(json.dumps(spec))


def _data_tokenizer(specification: dict[str, Any]) -> Tokenizer:
    """A tokenizer that knows no added token but white space, which controls nothing.

    GPT-NeoX has runs of spaces as added tokens, Gemma has newlines.
    """
    blanks = _blanks(specification)
    tokenizer = _without_leading_space({**specification, "added_tokens": blanks})
    if all(tokenizer.token_to_id(token["content"]) == token["id"] for token in blanks):
        return tokenizer
    return _without_leading_space({**specification, "added_tokens": []})  # ids have gaps


def _blanks(specification: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        token
        for token in specification["added_tokens"]
        if not (token["special"] or token["content"].replace("\u2581", " ").strip())
    ]


def _has_prefix_space(specification: dict[str, Any]) -> bool:
    parts = _parts(specification["pre_tokenizer"], "pretokenizers")
    return any(part["type"] == "ByteLevel" and part["add_prefix_space"] for part in parts)


def _is_blank(token: Any) -> bool:
    """Whether an added token is white space, as a newline is one in Gemma's vocabulary."""
    return not (token.special or token.content.replace("\u2581", " ").strip())


def _without_prepend(normalizer: dict[str, Any] | None) -> dict[str, Any] | None:
    if normalizer is None or normalizer["type"] == "Prepend":
        return None
    if normalizer["type"] != "Sequence":
        return normalizer
    kept = [part for part in normalizer["normalizers"] if part["type"] != "Prepend"]
    return {"type": "Sequence", "normalizers": kept}


def _parts(node: dict[str, Any] | None, key: str) -> list[dict[str, Any]]:
    if node is None:
        return []
    parts: list[dict[str, Any]] = node[key] if node["type"] == "Sequence" else [node]
    return parts


def _end_ids(model_dir: Path, tokenizer: Any) -> frozenset[int]:
    ends = {tokenizer.eos_token_id}
    generation_config = model_dir / "generation_config.json"
    if generation_config.is_file():
        eos = json.loads(generation_config.read_text()).get("eos_token_id")
        ends.update(eos if isinstance(eos, list) else [eos])
    ends.discard(None)
    if not ends:
        raise ValueError(
            f"{model_dir} names no end-of-sequence token; set eos_token in tokenizer_config.json"
        )
    return frozenset(ends)


def _digest(specification: dict[str, Any], template: Any, end_ids: frozenset[int]) -> str:
    canonical = json.dumps(
        [specification, template, sorted(end_ids)], sort_keys=True, ensure_ascii=True
    )
    return hashlib.sha256(canonical.encode()).hexdigest()
