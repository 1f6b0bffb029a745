"""The microworld's tokenizer: byte-level BPE with single digits and ChatML turns."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from orca2_gen.chat import Chat, encode_conversation, encode_text
from orca2_gen.microworld.corpus import Corpus, Document, documents

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

VOCAB_SIZE = 1344
MAX_POSITIONS = 512
START_OF_TURN, END_OF_TURN, START_OF_TEXT = "<|im_start|>", "<|im_end|>", "<|endoftext|>"
_NUM_TRAINING_DOCUMENTS = 30_000

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def train_tokenizer(corpus: Corpus, seed: int) -> PreTrainedTokenizerFast:
    """A tokenizer of `VOCAB_SIZE` entries, trained on the first documents of the corpus."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    # Each digit is a token of its own, so that written sums line up column by column.
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=[START_OF_TEXT, START_OF_TURN, END_OF_TURN],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = (
        text
        for document in islice(documents(corpus, seed), _NUM_TRAINING_DOCUMENTS)
        for text in _texts(document)
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END_OF_TURN,
        pad_token=START_OF_TEXT,
        additional_special_tokens=[START_OF_TURN],
        chat_template=CHAT_TEMPLATE,
        model_max_length=MAX_POSITIONS,
        clean_up_tokenization_spaces=False,
    )


def encode_document(chat: Chat, document: Document) -> tuple[tuple[int, ...], int]:
    """The token ids of a document, and the number of them without loss."""
    if document.messages:
        return encode_conversation(chat, document.messages)
    opening = (chat.tokenizer.pad_token_id, *encode_text(chat, document.given))
    return (*opening, *encode_text(chat, document.learned), chat.tokenizer.eos_token_id), len(
        opening
    )


def save_tokenizer(tokenizer: PreTrainedTokenizerFast, directory: Path) -> None:
    """Writes the tokenizer and its template into a model directory."""
    tokenizer.save_pretrained(directory)


def _texts(document: Document) -> Iterator[str]:
    for message in document.messages:
        yield f"{message.role}\n"  # as in the template
        yield message.content
    if not document.messages:
        yield document.given
        yield document.learned
