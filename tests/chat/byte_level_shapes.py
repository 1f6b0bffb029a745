"""The shapes whose tokenizers are byte-level BPEs."""

from __future__ import annotations

from tests.chat.published_shape import PublishedShape
from tests.chat.tokenizers import byte_level, markers_of, words_of

_CHATML = markers_of("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_QWEN_TOOLS = words_of("<tool_call>", "</tool_call>")
_QWEN_THINK = words_of("<tool_response>", "</tool_response>", "<think>", "</think>")
_DEEPSEEK_BOS = "<\uff5cbegin\u2581of\u2581sentence\uff5c>"
_DEEPSEEK_EOS = "<\uff5cend\u2581of\u2581sentence\uff5c>"
_DEEPSEEK = [
    *markers_of(_DEEPSEEK_BOS, _DEEPSEEK_EOS),
    *words_of("<\uff5cUser\uff5c>", "<\uff5cAssistant\uff5c>"),
]
_HARMONY = (
    *("startoftext", "endoftext", "return", "constrain", "channel"),
    *("start", "end", "message", "call"),
)
_GRANITE = ("<|end_of_text|>", "<|start_of_role|>", "<|end_of_role|>", "<|tool_call|>")
_APERTUS = [
    f"<|{who}_{at}|>"
    for who in ["system", "developer", "user", "assistant"]
    for at in ("start", "end")
] + ["<|inner_prefix|>", "<|inner_suffix|>"]
_COMMAND = ("START_OF_TURN", "END_OF_TURN", "USER", "CHATBOT", "SYSTEM")
_GLM = ("[gMASK]", "<sop>", "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>")
_HEADS = markers_of(
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "<|python_tag|>",
)
_TEKKEN = markers_of(
    *("<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]"),
    *("[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"),
)
_CUTS = "the template writes no thought"

BYTE_LEVEL_SHAPES = (
    PublishedShape(name="chatml", tokenizer=lambda: byte_level(_CHATML), eos="<|im_end|>"),
    PublishedShape(
        name="phi_4",
        tokenizer=lambda: byte_level([*_CHATML, *markers_of("<|im_sep|>")]),
        bos="<|endoftext|>",
        eos="<|im_end|>",
    ),
    PublishedShape(
        name="llama_3",
        tokenizer=lambda: byte_level(_HEADS, bos="<|begin_of_text|>", whole_words=True),
        bos="<|begin_of_text|>",
        eos="<|eot_id|>",
        further_ends=("<|end_of_text|>",),
        date="shown",
        arguments=(("date_string", "1 April 2025"),),
    ),
    PublishedShape(
        name="mistral_tekken",
        tokenizer=lambda: byte_level(
            _TEKKEN,
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
        tokenizer=lambda: byte_level(markers_of(*_GRANITE)),
        bos="<|end_of_text|>",
        eos="<|end_of_text|>",
        date="own",
        own_system="Knowledge Cutoff Date",
        arguments=(("controls", {"length": "short"}),),
    ),
    PublishedShape(
        name="apertus",
        tokenizer=lambda: byte_level(
            markers_of("<unk>", "<s>", "</s>", *_APERTUS), bos="<s>", in_vocabulary=True
        ),
        bos="<s>",
        eos="<|assistant_end|>",
        further_ends=("</s>",),
        date="own",
        own_system="You are Apertus",
        arguments=(("enable_thinking", True),),
        thought=("<|inner_prefix|>", "<|inner_suffix|>"),
    ),
    PublishedShape(
        name="qwen_2_5",
        tokenizer=lambda: byte_level([*_CHATML, *_QWEN_TOOLS], nfc=True),
        eos="<|im_end|>",
        further_ends=("<|endoftext|>",),
        own_system="You are Qwen",
    ),
    PublishedShape(
        name="smollm_3",
        tokenizer=lambda: byte_level([*_CHATML, *_QWEN_THINK]),
        eos="<|im_end|>",
        date="shown",
        own_system="You are a helper",
        keeps_own_system=True,
        arguments=(("enable_thinking", False),),
        thought=("<think>", "</think>"),
        other_thought=_CUTS,
    ),
    PublishedShape(
        name="qwen_3",
        tokenizer=lambda: byte_level([*_CHATML, *_QWEN_TOOLS, *_QWEN_THINK], nfc=True),
        eos="<|im_end|>",
        further_ends=("<|endoftext|>",),
        arguments=(("enable_thinking", False),),
        row_opening="<think> </think>",
        thought=("<think>", "</think>"),
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
            [*_DEEPSEEK, *words_of("<think>", "</think>")], bos=_DEEPSEEK_BOS
        ),
        bos=_DEEPSEEK_BOS,
        eos=_DEEPSEEK_EOS,
        opens_think=True,
        thought=("<think>", "</think>"),
        other_row="the prompt begins a thought, which the template's whole conversation has not",
        other_thought=_CUTS,
    ),
    PublishedShape(
        name="harmony",
        tokenizer=lambda: byte_level(markers_of(*(f"<|{name}|>" for name in _HARMONY))),
        bos="<|startoftext|>",
        eos="<|return|>",
        further_ends=("<|endoftext|>", "<|call|>"),
        date="shown",
        arguments=(("reasoning_effort", "high"), ("model_identity", "You are another.")),
        row_opening="<|channel|>final<|message|>",
        thought=(
            "<|channel|>analysis<|message|>",
            "<|end|><|start|>assistant<|channel|>final<|message|>",
        ),
    ),
    PublishedShape(
        name="command_r",
        tokenizer=lambda: byte_level(
            markers_of("<BOS_TOKEN>", "<EOS_TOKEN>", *(f"<|{name}_TOKEN|>" for name in _COMMAND)),
            bos="<BOS_TOKEN>",
        ),
        bos="<BOS_TOKEN>",
        eos="<|END_OF_TURN_TOKEN|>",
    ),
    PublishedShape(
        name="macros",
        tokenizer=lambda: byte_level(
            markers_of("<|SYSTEM|>", "<|USER|>", "<|ASSISTANT|>", "<|END|>")
        ),
        eos="<|END|>",
    ),
    PublishedShape(
        name="glm",
        tokenizer=lambda: byte_level(markers_of("<|endoftext|>", *_GLM)),
        eos="<|endoftext|>",
        further_ends=("<|user|>", "<|observation|>"),
        closes_turns=False,
    ),
    PublishedShape(
        name="olmo",
        tokenizer=lambda: byte_level(markers_of("<|endoftext|>", "<|padding|>")),
        bos="<|endoftext|>",
        eos="<|endoftext|>",
    ),
)
