"""The shapes of models that think and whose thoughts have forms of their own."""

from __future__ import annotations

from tests.chat.published_shape import PublishedShape
from tests.chat.tokenizers import byte_level, markers_of, words_of

_CHATML = markers_of("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_THINK = words_of("<think>", "</think>")
_DEEPSEEK_BOS = "<\uff5cbegin\u2581of\u2581sentence\uff5c>"
_DEEPSEEK_EOS = "<\uff5cend\u2581of\u2581sentence\uff5c>"
_DEEPSEEK = [
    *markers_of(_DEEPSEEK_BOS, _DEEPSEEK_EOS),
    *words_of("<\uff5cUser\uff5c>", "<\uff5cAssistant\uff5c>"),
    *_THINK,
]
_GLM = ("[gMASK]", "<sop>", "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>")
_COMMAND = (
    *("<BOS_TOKEN>", "<EOS_TOKEN>", "<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>"),
    *("<|USER_TOKEN|>", "<|CHATBOT_TOKEN|>", "<|SYSTEM_TOKEN|>"),
    *("<|START_THINKING|>", "<|END_THINKING|>", "<|START_RESPONSE|>", "<|END_RESPONSE|>"),
)
_KIMI = ("<|im_system|>", "<|im_user|>", "<|im_assistant|>", "<|im_middle|>", "<|im_end|>")
_GEMMA = ("<bos>", "<eos>", "<|turn>", "<turn|>", "<|think|>", "<|channel>", "<channel|>")
_HEADS = (
    *("<|begin_of_text|>", "<|end_of_text|>"),
    *("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
)
_CUTS = "the template writes no thought"
_BEGINS = "the prompt begins a thought, which the template's whole conversation has not"
_CLOSED = "the prompt has closed a thought, which the template's whole conversation has not"
_MERGES = "the newline at the end of the prompt merges with the one behind it"

THINKING_SHAPES = (
    PublishedShape(
        name="qwen_thinking",
        tokenizer=lambda: byte_level([*_CHATML, *_THINK], nfc=True),
        eos="<|im_end|>",
        further_ends=("<|endoftext|>",),
        opens_think=True,
        row_opening="</think>",
        thought=("<think>", "</think>"),
        other_row=_MERGES,
    ),
    PublishedShape(
        name="deepseek_3",
        tokenizer=lambda: byte_level(_DEEPSEEK, bos=_DEEPSEEK_BOS),
        bos=_DEEPSEEK_BOS,
        eos=_DEEPSEEK_EOS,
        arguments=(("thinking", True),),
        closes_think=True,
        thought=("<think>", "</think>"),
        other_thought=_CUTS,
    ),
    PublishedShape(
        name="deepseek_3_thinking",
        template="deepseek_3",
        given=(("thinking", True),),
        tokenizer=lambda: byte_level(_DEEPSEEK, bos=_DEEPSEEK_BOS),
        bos=_DEEPSEEK_BOS,
        eos=_DEEPSEEK_EOS,
        opens_think=True,
        row_opening="</think>",
        thought=("<think>", "</think>"),
        other_row=_BEGINS,
        other_thought=_CUTS,
    ),
    PublishedShape(
        name="glm_4_5",
        tokenizer=lambda: byte_level([*markers_of("<|endoftext|>", *_GLM), *_THINK]),
        eos="<|endoftext|>",
        further_ends=("<|user|>", "<|observation|>"),
        closes_turns=False,
        arguments=(("enable_thinking", False),),
        row_opening="<think></think>",
        thought=("<think>", "</think>"),
    ),
    PublishedShape(
        name="command_a",
        tokenizer=lambda: byte_level(markers_of(*_COMMAND), bos="<BOS_TOKEN>"),
        bos="<BOS_TOKEN>",
        eos="<|END_OF_TURN_TOKEN|>",
        opens_think=True,
        arguments=(("reasoning", False),),
        thought=("<|START_THINKING|>", "<|END_THINKING|><|START_RESPONSE|>"),
        other_row=_BEGINS,
    ),
    PublishedShape(
        name="command_a_answering",
        template="command_a",
        given=(("reasoning", False),),
        tokenizer=lambda: byte_level(markers_of(*_COMMAND), bos="<BOS_TOKEN>"),
        bos="<BOS_TOKEN>",
        eos="<|END_OF_TURN_TOKEN|>",
        row_opening="<|START_RESPONSE|>",
        closes_think=True,
        thought=("<|START_THINKING|>", "<|END_THINKING|><|START_RESPONSE|>"),
        other_row=_CLOSED,
        other_thought=_CLOSED,
    ),
    PublishedShape(
        name="seed",
        tokenizer=lambda: byte_level(
            markers_of("<seed:bos>", "<seed:eos>", "<seed:think>", "</seed:think>")
        ),
        bos="<seed:bos>",
        eos="<seed:eos>",
        many_bos=True,
        arguments=(("thinking_budget", 512),),
        thought=("<seed:think>", "</seed:think>"),
    ),
    PublishedShape(
        name="kimi_k2",
        tokenizer=lambda: byte_level([*markers_of("[BOS]", "[EOS]", *_KIMI), *_THINK]),
        bos="[BOS]",
        eos="<|im_end|>",
        further_ends=("[EOS]",),
        own_system="You are Kimi",
        row_opening="<think></think>",
        thought=("<think>", "</think>"),
        other_thought=_CUTS,
    ),
    PublishedShape(
        name="minimax",
        tokenizer=lambda: byte_level([*markers_of("]~!b[", "]~b]", "[e~["), *_THINK]),
        bos="]~!b[",
        eos="[e~[",
        own_system="You are a model",
        keeps_own_system=True,
        opens_think=True,
        thought=("<think>", "</think>"),
        other_row=_BEGINS,
    ),
    PublishedShape(
        name="nemotron_nano",
        tokenizer=lambda: byte_level(
            [*markers_of("<s>", "</s>", *(f"<SPECIAL_{n}>" for n in (10, 11, 12))), *_THINK],
            bos="<s>",
        ),
        bos="<s>",
        eos="<SPECIAL_12>",
        opens_think=True,
        thought=("<think>", "</think>"),
        other_row="the template's whole conversation begins a thought and never ends it",
        other_thought=_CUTS,
    ),
    PublishedShape(
        name="nemotron_3",
        tokenizer=lambda: byte_level([*_CHATML, *_THINK]),
        eos="<|im_end|>",
        opens_think=True,
        thought=("<think>", "</think>"),
        other_row=_BEGINS,
    ),
    PublishedShape(
        name="magistral",
        tokenizer=lambda: byte_level(
            markers_of(
                *("<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[SYSTEM_PROMPT]"),
                *("[/SYSTEM_PROMPT]", "[THINK]", "[/THINK]"),
            ),
            bos="<s>",
            in_vocabulary=True,
            whole_words=True,
        ),
        bos="<s>",
        eos="</s>",
        thought=("[THINK]", "[/THINK]"),
    ),
    PublishedShape(
        name="exaone_deep",
        tokenizer=lambda: byte_level(
            markers_of("[BOS]", *(f"[|{n}|]" for n in ("system", "user", "assistant", "endofturn")))
        ),
        eos="[|endofturn|]",
        opens_think=True,
        has_spelled_thought=True,
        thought=("<thought>", "</thought>"),
        other_row=_BEGINS,
        other_thought=_CUTS,
    ),
    PublishedShape(
        name="solar",
        tokenizer=lambda: byte_level(
            markers_of("<|begin|>", "<|end|>", "<|content|>", "<|think|>", "<|flush|>")
        ),
        eos="<|flush|>",
        closes_turns=False,
        row_opening="<|content|>",
        thought=("<|think|>", "<|end|><|begin|>assistant<|content|>"),
    ),
    PublishedShape(
        name="recipients",
        tokenizer=lambda: byte_level(markers_of("<|start|>", "<|message|>", "<|eom|>", "<|eot|>")),
        eos="<|eot|>",
        row_opening="to=user<|message|>",
        thought=("to=self<|message|>", "<|eom|><|start|>assistant to=user<|message|>"),
    ),
    PublishedShape(
        name="elements",
        tokenizer=lambda: byte_level(
            markers_of("<|open|>", "<|close|>", "<|sep|>", "<|end_of_msg|>")
        ),
        eos="<|end_of_msg|>",
        opens_think=True,
        row_opening="<|close|>think<|sep|><|open|>response<|sep|>",
        thought=(
            "<|open|>think<|sep|>",
            "<|close|>think<|sep|><|open|>response<|sep|>",
        ),
    ),
    PublishedShape(
        name="gemma_4",
        tokenizer=lambda: byte_level(markers_of(*_GEMMA), bos="<bos>"),
        bos="<bos>",
        eos="<eos>",
        further_ends=("<turn|>",),
        arguments=(("enable_thinking", True),),
        closes_think=True,
        thought=("<|channel>thought", "<channel|>"),
        other_row=_CLOSED,
        other_thought=_CUTS,
    ),
    PublishedShape(
        name="gemma_4_thinking",
        template="gemma_4",
        given=(("enable_thinking", True),),
        tokenizer=lambda: byte_level(markers_of(*_GEMMA), bos="<bos>"),
        bos="<bos>",
        eos="<eos>",
        further_ends=("<turn|>",),
        thought=("<|channel>thought", "<channel|>"),
        other_thought=_CUTS,
    ),
    PublishedShape(
        name="functions",
        tokenizer=lambda: byte_level(
            markers_of(*_HEADS), bos="<|begin_of_text|>", whole_words=True
        ),
        bos="<|begin_of_text|>",
        eos="<|eot_id|>",
        row_opening="all",
    ),
)
