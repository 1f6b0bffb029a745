"""The shapes whose tokenizers are of sentencepiece's kind."""

from __future__ import annotations

from tokenizers import AddedToken

from tests.chat.published_shape import PublishedShape
from tests.chat.tokenizers import (
    marker,
    markers_of,
    sentencepiece_legacy,
    sentencepiece_metaspace,
    sentencepiece_spaces,
    unigram,
    words_of,
)


def _normalized(text: str) -> AddedToken:
    """An added token as `add_tokens` makes it, which is looked for in normalized text."""
    return AddedToken(text, special=False, normalized=True)


_LLAMA = markers_of("<unk>", "<s>", "</s>")
_TOOLS = markers_of("[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]")
_GEMMA = ("<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>")
_BLANKS = words_of("\n", "\n\n", "\u2581\u2581", "\u2581\u2581\u2581", "<table>")
"""Gemma's added tokens that a text may hold too."""
_PHI = [
    *markers_of("<unk>", "<s>"),
    marker("</s>", special=False, rstrip=True),
    marker("<|endoftext|>"),
    *(marker(f"<|{name}|>", rstrip=True) for name in ("assistant", "system", "end", "user")),
]
_SEAM = "sentencepiece merges the last space of a marker that is text with the first word behind it"
_LEADING = "sentencepiece puts a space behind each added token"

SENTENCEPIECE_SHAPES = (
    PublishedShape(
        name="llama_2",
        tokenizer=lambda: sentencepiece_legacy(_LLAMA),
        bos="<s>",
        eos="</s>",
        is_byte_level=False,
        many_bos=True,
        other_ids=_SEAM,
    ),
    PublishedShape(
        name="mistral_1",
        tokenizer=lambda: sentencepiece_legacy(_LLAMA),
        bos="<s>",
        eos="</s>",
        is_byte_level=False,
        system="refused",
        other_ids=_SEAM,
    ),
    PublishedShape(
        name="mistral_3",
        tokenizer=lambda: sentencepiece_metaspace([*_LLAMA, *_TOOLS]),
        bos="<s>",
        eos="</s>",
        is_byte_level=False,
        system="dropped",
        other_ids=_SEAM,
    ),
    PublishedShape(
        name="vicuna",
        tokenizer=lambda: sentencepiece_legacy(_LLAMA),
        bos="<s>",
        eos="</s>",
        is_byte_level=False,
        own_system="A talk between",
        other_ids=_SEAM,
    ),
    PublishedShape(
        name="zephyr",
        tokenizer=lambda: sentencepiece_legacy(_LLAMA),
        bos="<s>",
        eos="</s>",
        is_byte_level=False,
        other_ids=_LEADING,
    ),
    PublishedShape(
        name="gemma_2",
        tokenizer=lambda: sentencepiece_spaces([*markers_of(*_GEMMA), *_BLANKS]),
        bos="<bos>",
        eos="<eos>",
        is_byte_level=False,
        further_ends=("<end_of_turn>",),
        system="refused",
    ),
    PublishedShape(
        name="gemma_3",
        tokenizer=lambda: sentencepiece_spaces([*markers_of(*_GEMMA), *_BLANKS]),
        bos="<bos>",
        eos="<eos>",
        is_byte_level=False,
        further_ends=("<end_of_turn>",),
    ),
    PublishedShape(
        name="phi_3",
        tokenizer=lambda: sentencepiece_legacy(_PHI),
        bos="<s>",
        eos="<|endoftext|>",
        is_byte_level=False,
        further_ends=("<|end|>", "<|assistant|>"),
        strips_after=True,
        other_ids=_LEADING,
    ),
    PublishedShape(
        name="alternating",
        tokenizer=lambda: sentencepiece_metaspace(
            [*_LLAMA, *map(_normalized, ("<|system|>", "<|user|>", "<|assistant|>"))]
        ),
        bos="<s>",
        eos="</s>",
        is_byte_level=False,
    ),
    PublishedShape(
        name="headings",
        tokenizer=lambda: unigram(_LLAMA, bos="<s>"),
        bos="<s>",
        eos="</s>",
        is_byte_level=False,
        knows_markers=True,
        other_ids=_SEAM,
    ),
)
