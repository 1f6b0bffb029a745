"""Messages -> token ids: the only place where text becomes tokens, for engines and for training.

A chat template is code from the model's author; a question is data from a stranger. Rendering both
into one string and tokenising it turns a question that contains `<|im_start|>system` into real
control tokens (transformers issue 29279). So a template is rendered once per conversation shape,
with placeholders (templates.py); the text between them is tokenised with the model's tokenizer, and
each message with a copy of it that knows no added token (encode.py). Data never enters a template.
"""

from orca2_gen.chat.encode import (
    ENCODING_VERSION,
    Chat,
    ControlTokenError,
    encode_conversation,
    encode_prompt,
    encode_text,
    load_chat,
    rendered_texts,
    shape_of,
    tokenizer_digest,
)
from orca2_gen.chat.resumption import num_closing_ids, resumable_ids
from orca2_gen.chat.templates import PLAIN, Rendering, Shape, TemplateError

__all__ = [
    "ENCODING_VERSION",
    "PLAIN",
    "Chat",
    "ControlTokenError",
    "Rendering",
    "Shape",
    "TemplateError",
    "encode_conversation",
    "encode_prompt",
    "encode_text",
    "load_chat",
    "num_closing_ids",
    "rendered_texts",
    "resumable_ids",
    "shape_of",
    "tokenizer_digest",
]
