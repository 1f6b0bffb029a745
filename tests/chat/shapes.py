"""The shapes of the collection: what their templates do, and which tokens they have."""

from __future__ import annotations

import functools

from tokenizers import AddedToken

from tests.chat.published_shape import PublishedShape
from tests.chat.tokenizers import (
    byte_level,
    marker,
    sentencepiece_legacy,
    sentencepiece_metaspace,
    sentencepiece_spaces,
    unigram,
)


def _special(*texts: str) -> list[AddedToken]:
    return [marker(text) for text in texts]


def _plain(*texts: str) -> list[AddedToken]:
    """Added tokens that are not flagged special."""
    return [marker(text, special=False) for text in texts]


_LLAMA = _special("<unk>", "<s>", "</s>")
_CHATML = _special("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_QWEN_TOOLS = _plain("<tool_call>", "</tool_call>")
_QWEN_THINK = _plain("<tool_response>", "</tool_response>", "<think>", "</think>")
_TEKKEN = ("[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]")
_GEMMA = ("<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>")
_DEEPSEEK_BOS = "<\uff5cbegin\u2581of\u2581sentence\uff5c>"
_DEEPSEEK_EOS = "<\uff5cend\u2581of\u2581sentence\uff5c>"
_DEEPSEEK = [
    *_special(_DEEPSEEK_BOS, _DEEPSEEK_EOS),
    *_plain("<\uff5cUser\uff5c>", "<\uff5cAssistant\uff5c>"),
]
_HARMONY = (
    *("startoftext", "endoftext", "return", "constrain", "channel"),
    *("start", "end", "message", "call"),
)
_PHI = [
    *_special("<unk>", "<s>"),
    marker("</s>", special=False, rstrip=True),
    marker("<|endoftext|>"),
    *(marker(f"<|{name}|>", rstrip=True) for name in ("assistant", "system", "end", "user")),
]
_GRANITE = ("<|end_of_text|>", "<|start_of_role|>", "<|end_of_role|>", "<|tool_call|>")
_APERTUS = [
    f"<|{who}_{at}|>"
    for who in ["system", "developer", "user", "assistant"]
    for at in ("start", "end")
]
_COMMAND = ("START_OF_TURN", "END_OF_TURN", "USER", "CHATBOT", "SYSTEM")
_GLM = ("[gMASK]", "<sop>", "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>")
_SEAM = "sentencepiece merges the last space of a marker that is text with the first word behind it"
_LEADING = "sentencepiece puts a space behind each added token"


@functools.cache
def shapes() -> tuple[PublishedShape, ...]:
    """Every shape, in the order in which they came up."""
    return (*_first_shapes(), *_dated_shapes(), *_thinking_shapes(), *_odd_shapes())


def _first_shapes() -> tuple[PublishedShape, ...]:
    return (
        PublishedShape(name="chatml", tokenizer=lambda: byte_level(_CHATML), eos="<|im_end|>"),
        PublishedShape(
            name="llama_2",
            tokenizer=lambda: sentencepiece_legacy(_LLAMA),
            bos="<s>",
            eos="</s>",
            is_byte_level=False,
            many_bos=True,
            row_opening=" ",
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
            tokenizer=lambda: sentencepiece_metaspace([*_LLAMA, *_special(*_TEKKEN)]),
            bos="<s>",
            eos="</s>",
            is_byte_level=False,
            system="dropped",
            row_opening=" ",
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
            tokenizer=lambda: sentencepiece_spaces(_special(*_GEMMA)),
            bos="<bos>",
            eos="<eos>",
            is_byte_level=False,
            further_ends=("<end_of_turn>",),
            system="refused",
        ),
        PublishedShape(
            name="gemma_3",
            tokenizer=lambda: sentencepiece_spaces(_special(*_GEMMA)),
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
            name="phi_4",
            tokenizer=lambda: byte_level([*_CHATML, *_special("<|im_sep|>")]),
            bos="<|endoftext|>",
            eos="<|im_end|>",
        ),
    )


def _dated_shapes() -> tuple[PublishedShape, ...]:
    heads = _special(
        "<|begin_of_text|>",
        "<|end_of_text|>",
        "<|start_header_id|>",
        "<|end_header_id|>",
        "<|eot_id|>",
        "<|python_tag|>",
    )
    return (
        PublishedShape(
            name="llama_3",
            tokenizer=lambda: byte_level(heads, bos="<|begin_of_text|>", whole_words=True),
            bos="<|begin_of_text|>",
            eos="<|eot_id|>",
            further_ends=("<|end_of_text|>",),
            date="shown",
            arguments=(("date_string", "1 April 2025"),),
        ),
        PublishedShape(
            name="mistral_tekken",
            tokenizer=lambda: byte_level(
                [*_LLAMA, *_special(*_TEKKEN, "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]")],
                bos="<s>",
                in_vocabulary=True,
                whole_words=True,
            ),
            bos="<s>",
            eos="</s>",
            date="own",
            own_system="You are Mistral",
        ),
        PublishedShape(
            name="granite",
            tokenizer=lambda: byte_level(_special(*_GRANITE)),
            bos="<|end_of_text|>",
            eos="<|end_of_text|>",
            date="own",
            own_system="Knowledge Cutoff Date",
            arguments=(("controls", {"length": "short"}),),
        ),
        PublishedShape(
            name="apertus",
            tokenizer=lambda: byte_level(
                [*_LLAMA, *_special(*_APERTUS)], bos="<s>", in_vocabulary=True
            ),
            bos="<s>",
            eos="<|assistant_end|>",
            further_ends=("</s>",),
            date="own",
            own_system="You are Apertus",
            arguments=(("enable_thinking", True),),
        ),
    )


def _thinking_shapes() -> tuple[PublishedShape, ...]:
    return (
        PublishedShape(
            name="qwen_2_5",
            tokenizer=lambda: byte_level([*_CHATML, *_QWEN_TOOLS], nfc=True),
            eos="<|im_end|>",
            further_ends=("<|endoftext|>",),
            own_system="You are Qwen",
        ),
        PublishedShape(
            name="qwen_3",
            tokenizer=lambda: byte_level([*_CHATML, *_QWEN_TOOLS, *_QWEN_THINK], nfc=True),
            eos="<|im_end|>",
            further_ends=("<|endoftext|>",),
            arguments=(("enable_thinking", False),),
            row_opening="<think>\n\n</think>\n\n",
        ),
        PublishedShape(
            name="deepseek",
            tokenizer=lambda: byte_level(_DEEPSEEK, bos=_DEEPSEEK_BOS),
            bos=_DEEPSEEK_BOS,
            eos=_DEEPSEEK_EOS,
        ),
        PublishedShape(
            name="r1",
            tokenizer=lambda: byte_level(
                [*_DEEPSEEK, *_plain("<think>", "</think>")], bos=_DEEPSEEK_BOS
            ),
            bos=_DEEPSEEK_BOS,
            eos=_DEEPSEEK_EOS,
            opens_think=True,
            row_opening="<think>\n",
        ),
        PublishedShape(
            name="harmony",
            tokenizer=lambda: byte_level(_special(*(f"<|{name}|>" for name in _HARMONY))),
            bos="<|startoftext|>",
            eos="<|return|>",
            further_ends=("<|endoftext|>", "<|call|>"),
            date="shown",
            arguments=(("reasoning_effort", "high"), ("model_identity", "You are another.")),
            row_opening="<|channel|>final<|message|>",
        ),
    )


def _odd_shapes() -> tuple[PublishedShape, ...]:
    return (
        PublishedShape(
            name="command_r",
            tokenizer=lambda: byte_level(
                _special("<BOS_TOKEN>", "<EOS_TOKEN>", *(f"<|{name}_TOKEN|>" for name in _COMMAND)),
                bos="<BOS_TOKEN>",
            ),
            bos="<BOS_TOKEN>",
            eos="<|END_OF_TURN_TOKEN|>",
        ),
        PublishedShape(
            name="macros",
            tokenizer=lambda: byte_level(
                _special("<|SYSTEM|>", "<|USER|>", "<|ASSISTANT|>", "<|END|>")
            ),
            eos="<|END|>",
        ),
        PublishedShape(
            name="alternating",
            tokenizer=lambda: sentencepiece_metaspace(
                [*_LLAMA, *_plain("<|system|>", "<|user|>", "<|assistant|>")]
            ),
            bos="<s>",
            eos="</s>",
            is_byte_level=False,
        ),
        PublishedShape(
            name="glm",
            tokenizer=lambda: byte_level(_special("<|endoftext|>", *_GLM)),
            eos="<|endoftext|>",
            further_ends=("<|user|>", "<|observation|>"),
            closes_turns=False,
        ),
        PublishedShape(
            name="olmo",
            tokenizer=lambda: byte_level(_special("<|endoftext|>", "<|padding|>")),
            bos="<|endoftext|>",
            eos="<|endoftext|>",
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
