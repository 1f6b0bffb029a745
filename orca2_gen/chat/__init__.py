"""Messages -> token ids: the only place where text becomes tokens, for engines and for training.

A chat template is code from the model's author; a question is data from a stranger. Rendering both
into one string and tokenising it turns a question that contains `<|im_start|>system` into real
control tokens (transformers issue 29279). So a template is rendered once per conversation shape,
with placeholders (templates.py); the text between them is tokenised with the model's tokenizer, and
each message with a copy of it that knows no marker (encode.py). Data never enters a template. A
model's own markers come back as ids, which part its thought from its answer (parting.py).
"""

from orca2_gen.chat.chat import Chat, Thinking, shape_of
from orca2_gen.chat.encode import (
    ENCODING_VERSION,
    ControlTokenError,
    encode_conversation,
    encode_conversations,
    encode_prompt,
    encode_text,
    template_ids,
)
from orca2_gen.chat.load import load_chat, tokenizer_digest
from orca2_gen.chat.parting import (
    has_stray_marker,
    opens_thought,
    parted,
    resumable_ids,
    split_thought,
)
from orca2_gen.chat.rendered_texts import rendered_texts
from orca2_gen.chat.rendering import PLAIN, Rendering
from orca2_gen.chat.templates import Shape, TemplateError

__all__ = [
    "ENCODING_VERSION",
    "PLAIN",
    "Chat",
    "ControlTokenError",
    "Rendering",
    "Shape",
    "TemplateError",
    "Thinking",
    "encode_conversation",
    "encode_conversations",
    "encode_prompt",
    "encode_text",
    "has_stray_marker",
    "load_chat",
    "opens_thought",
    "parted",
    "rendered_texts",
    "resumable_ids",
    "shape_of",
    "split_thought",
    "template_ids",
    "tokenizer_digest",
]
