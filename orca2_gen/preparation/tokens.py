"""A base model's tokenizer -> the same with control tokens, an end of turn and a chat template."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orca2_gen.preflight.template import check_tokenizer_files, unloadable
from orca2_gen.preparation.pretrained import KEY
from orca2_gen.preparation.spaces import keep_spaces_out
from orca2_gen.run_directory.regular_files import UnusableFile, read_regular

PAD = "[PAD]"
"""The padding token of a tokenizer that has none; the name is Orca 2's."""
_CHATML = Path(__file__).with_name("chatml.jinja")
_CHATML_TOKENS = ("<|im_start|>", "<|im_end|>")
_MOST_BYTES = 16 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Template:
    """A chat template and the tokens that it is written with."""

    text: str
    control: tuple[str, ...]
    """Tokens that only the template may write."""
    further: tuple[str, ...]
    """Tokens that the model itself may write in an answer, as those around a thought."""
    end: str
    """The one that ends a turn."""
    begins: bool
    """Whether a conversation begins with the tokenizer's bos, if it has one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Vocabulary:
    """The tokens of a base model's tokenizer."""

    tokenizer: Any
    """The transformers tokenizer."""
    ids: Mapping[str, int]
    """Token -> id."""
    begins: bool
    """Whether the model was trained on texts that begin with bos, as far as its files say."""


def read_template(wanted: str, end: str | None, further: tuple[str, ...]) -> Template:
    """The Template called chatml, or that of a file.

    Raises:
        ValueError: there is no such file, it is empty or no template, or nothing says which token
            ends a turn.
    """
    for token in (*further, *([end] if end is not None else [])):
        if not token.strip() or token != token.strip():
            raise ValueError(f"a token is {token!a}; expected a text without white space around it")
    if wanted == "chatml":
        if end not in (None, _CHATML_TOKENS[1]):
            raise ValueError(
                f"--end {end!a}: ChatML ends a turn with {_CHATML_TOKENS[1]}; leave --end out, or "
                "give a template of your own"
            )
        return Template(
            text=_CHATML.read_text(encoding="utf-8"),
            control=_CHATML_TOKENS,
            further=further,
            end=_CHATML_TOKENS[1],
            begins=True,
        )
    path = Path(wanted)
    try:
        text = read_regular(path, _MOST_BYTES).decode("utf-8")
    except FileNotFoundError:
        raise ValueError(
            f"--template: there is no file {path}; expected chatml or a file with a chat template"
        ) from None
    except (UnusableFile, UnicodeDecodeError) as error:
        raise ValueError(f"--template: {path} is no text of a chat template ({error})") from None
    if end is None:
        raise ValueError(
            f"--template {path}: say which token ends a turn in it, with --end, e.g. --end "
            "'<|im_end|>'"
        )
    return Template(text=text, control=(end,), further=further, end=end, begins=False)


def read_vocabulary(
    directory: Path, *, replaces_template: bool, ends: Collection[int] = ()
) -> Vocabulary:
    """The Vocabulary of a base model's tokenizer.

    Args:
        directory: the model's.
        replaces_template: whether it may have a chat template.
        ends: ids that end a text besides the tokenizer's eos.

    Raises:
        ValueError: the tokenizer is absent, damaged or of another kind, or it has a chat template
            and `replaces_template` is false; one line.
    """
    from transformers import AutoTokenizer

    check_tokenizer_files(KEY, directory)
    if not (directory / "tokenizer.json").is_file():
        raise ValueError(
            f"{KEY}: {directory} holds no tokenizer.json; convert its tokenizer with "
            "AutoTokenizer.from_pretrained(...).save_pretrained(...) of transformers"
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            directory, local_files_only=True, trust_remote_code=False
        )
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # the tokenizers library panics, which is no Exception
        raise unloadable(KEY, str(directory), error) from error
    if not getattr(tokenizer, "is_fast", False):
        raise ValueError(f"{KEY}: the tokenizer in {directory} has no backend of `tokenizers`")
    if tokenizer.chat_template and not replaces_template:
        raise ValueError(
            f"{KEY}: {directory} has a chat template already, so it can be a student as it is; "
            "--force replaces it"
        )
    others = [tokenizer.eos_token_id, tokenizer.pad_token_id, *ends]
    return Vocabulary(
        tokenizer=tokenizer,
        ids=dict(tokenizer.get_vocab()),
        begins=_begins(directory, tokenizer, others),
    )


def _begins(directory: Path, tokenizer: Any, further: Collection[int]) -> bool:
    """Whether the model was trained on texts that begin with bos, as far as its files say."""
    bos = tokenizer.bos_token_id
    if bos is None:
        return False
    if tokenizer("a").input_ids[:1] == [bos]:
        return True
    path = directory / "tokenizer_config.json"
    settings = json.loads(path.read_bytes()) if path.is_file() else {}
    # A bos that ends a text too, or pads, only parts documents: Qwen's is its <|endoftext|>.
    return settings.get("add_bos_token") is not False and bos not in further


def save_tokenizer(vocabulary: Vocabulary, template: Template, target: Path) -> Vocabulary:
    """Saves the tokenizer with the template's tokens and text; the Vocabulary that it has then.

    A token that it has keeps its id. A tokenizer without a padding token gets one, before all
    others, as in Orca 2: on Llama 2 the ids are 32000, 32001 and 32002. None of them is followed by
    a space that nobody wrote.

    Raises:
        ValueError: an id would be given twice.
    """
    from tokenizers import AddedToken

    tokenizer = vocabulary.tokenizer
    keep_spaces_out(tokenizer)
    if tokenizer.pad_token_id is None:
        tokenizer.add_special_tokens({"pad_token": _added(PAD, special=True)})
    control = [_added(text, special=True) for text in template.control]
    tokenizer.add_tokens(control, special_tokens=True)
    known = tokenizer.added_tokens_decoder.values()
    tokenizer.add_tokens(
        [
            AddedToken(text, special=False, normalized=False)
            for text in template.further
            if text not in {str(token) for token in known}
        ]
    )
    tokenizer.eos_token = template.end
    begin = "{{- bos_token -}}\n" if template.begins and vocabulary.begins else ""
    tokenizer.chat_template = begin + template.text
    ids = dict(tokenizer.get_vocab())
    moved = [token for token, old in vocabulary.ids.items() if ids.get(token) != old]
    if moved or len(set(ids.values())) < len(ids):
        raise ValueError(
            f"{KEY}: its tokenizer has gaps between its ids, so that new tokens would take "
            f"those of others ({(moved or ['?'])[0]!a:.80}); save it with save_pretrained first"
        )
    tokenizer.save_pretrained(target)
    return Vocabulary(tokenizer=tokenizer, ids=ids, begins=vocabulary.begins)


def _added(text: str, *, special: bool) -> Any:
    from tokenizers import AddedToken

    return AddedToken(text, special=special, normalized=False)
