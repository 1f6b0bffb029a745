"""Small tokenizers built as the published ones are: the same parts, a vocabulary of its own.

Each function makes a tokenizer of the `tokenizers` library with these markers added:

- `byte_level`: GPT-2's and all that came from it (Qwen, Llama 3, tekken, DeepSeek, harmony ...);
- `sentencepiece_legacy`: Llama 2's as first converted, with a `Prepend` normalizer (Zephyr, Phi-3);
- `sentencepiece_metaspace`: the same, with a `Metaspace` pre-tokenizer instead (Mistral v3);
- `sentencepiece_spaces`: Gemma's, which puts no space before a text;
- `unigram`: sentencepiece's other model, with NFKC.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from typing import Any

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

SPACE = "\u2581"
"""Sentencepiece's space."""
_CORPUS = (
    "You solve problems step by step. Begin with what is given and what is asked.",
    "Answer: the number 12 plus 34 is 46. Let us see how many apples Mira packs into 7 boxes.",
    "system user assistant developer model instruction response thinking tools [INST] [/INST]",
    "<|im_start|>system\n<|im_end|>\n<|user|>\n<|assistant|>\n<|end|>\n<think>\n</think>\n",
    "Is it <s> or </s>?",
    "<<SYS>>\n<</SYS>>\n\n### Instruction:\n### Response:\n[SYSTEM_PROMPT] [/SYSTEM_PROMPT] <|end",
    "<start_of_turn>user\n<end_of_turn>\nToday Date: 26 Jul 2024\n\nCurrent date: 2024-07-26\n\n",
)
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""How most byte-level tokenizers since GPT-4 part words, digits and signs."""
_BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


def marker(text: str, *, special: bool = True, rstrip: bool = False) -> AddedToken:
    return AddedToken(text, special=special, normalized=False, rstrip=rstrip)


def markers_of(*texts: str) -> list[AddedToken]:
    return [marker(text) for text in texts]


def words_of(*texts: str) -> list[AddedToken]:
    """Added tokens that are not flagged special."""
    return [marker(text, special=False) for text in texts]


def byte_level(
    markers: Sequence[AddedToken],
    *,
    bos: str = "",
    nfc: bool = False,
    whole_words: bool = False,
    in_vocabulary: bool = False,
) -> Tokenizer:
    """A byte-level BPE.

    Args:
        markers: its added tokens.
        bos: the token that its post-processor puts first.
        nfc: whether it composes characters, as Qwen's does.
        whole_words: whether a word that is in the vocabulary needs no merges, as in Llama 3.
        in_vocabulary: whether the model itself knows the markers too, at the lowest ids, as
            tekken's does.
    """
    model = json.loads(_trained_byte_level())
    vocabulary, merges = model["vocab"], [tuple(pair) for pair in model["merges"]]
    if in_vocabulary:
        named = [added.content for added in markers]
        vocabulary = {piece: index for index, piece in enumerate([*named, *vocabulary])}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, ignore_merges=whole_words))
    tokenizer.normalizer = normalizers.NFC() if nfc else None
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return _with_markers(tokenizer, markers, bos)


def sentencepiece_legacy(markers: Sequence[AddedToken], *, bos: str = "<s>") -> Tokenizer:
    """A BPE with byte fallback that writes a space before every text."""
    tokenizer = _sentencepiece(markers)
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)]
    )
    tokenizer.decoder = _sentencepiece_decoder(strips=True)
    return _with_markers(tokenizer, markers, bos)


def sentencepiece_metaspace(markers: Sequence[AddedToken], *, bos: str = "<s>") -> Tokenizer:
    """A BPE with byte fallback that writes a space before the start of a text only."""
    tokenizer = _sentencepiece(markers)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = _sentencepiece_decoder(strips=True)
    return _with_markers(tokenizer, markers, bos)


def sentencepiece_spaces(markers: Sequence[AddedToken], *, bos: str = "<bos>") -> Tokenizer:
    """A BPE with byte fallback that writes no space of its own."""
    tokenizer = _sentencepiece(markers)
    tokenizer.normalizer = normalizers.Replace(" ", SPACE)
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", behavior="merged_with_previous")
    tokenizer.decoder = _sentencepiece_decoder(strips=False)
    return _with_markers(tokenizer, markers, bos)


def unigram(markers: Sequence[AddedToken], *, bos: str = "") -> Tokenizer:
    """A Unigram model with byte fallback, whose vocabulary holds the markers as sentencepiece's
    does.
    """
    trained = json.loads(_trained_unigram())
    named = [(added.content, 0.0) for added in markers]
    pieces = [*named, *((piece, -20.0) for piece in _BYTES), *map(tuple, trained["vocab"])]
    pieces = list({piece: (piece, score) for piece, score in reversed(pieces)}.values())[::-1]
    unknown = [piece for piece, _ in pieces].index("<unk>")
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=unknown, byte_fallback=True))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = _sentencepiece_decoder(strips=True)
    return _with_markers(tokenizer, markers, bos)


def _sentencepiece(markers: Sequence[AddedToken]) -> Tokenizer:
    model = json.loads(_trained_sentencepiece())
    named = [added.content for added in markers]
    pieces = ["<unk>", *named, *_BYTES, *model["vocab"]]
    vocabulary = {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}
    runs = [(run[0], run[1:]) for run in named if len(run) > 1 and run in (run[0] * len(run))]
    # Sentencepiece merges text into runs of white space and never into a marker.
    merges = [(left, right) for left, right in model["merges"] if left + right not in named]
    merges = [*runs, *merges]
    return Tokenizer(
        models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    )


def _sentencepiece_decoder(*, strips: bool) -> Any:
    parts = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    return decoders.Sequence([*parts, *([decoders.Strip(" ", 1, 0)] if strips else [])])


def _with_markers(tokenizer: Tokenizer, markers: Sequence[AddedToken], bos: str) -> Tokenizer:
    tokenizer.add_special_tokens([added for added in markers if added.special])
    tokenizer.add_tokens([added for added in markers if not added.special])
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A",
            pair=f"{bos} $A {bos} $B",
            special_tokens=[(bos, tokenizer.token_to_id(bos))],
        )
    return tokenizer


@functools.cache
def _trained_byte_level() -> str:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=480, initial_alphabet=alphabet, show_progress=False, min_frequency=1
    )
    return _trained(tokenizer, trainer)


@functools.cache
def _trained_sentencepiece() -> str:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    return _trained(tokenizer, trainers.BpeTrainer(vocab_size=300, show_progress=False))


@functools.cache
def _trained_unigram() -> str:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=200, unk_token="<unk>", special_tokens=["<unk>"], show_progress=False
    )
    return _trained(tokenizer, trainer)


def _trained(tokenizer: Tokenizer, trainer: Any) -> str:
    tokenizer.train_from_iterator(_CORPUS, trainer)
    model: dict[str, Any] = json.loads(tokenizer.to_str())["model"]
    return json.dumps(model)
