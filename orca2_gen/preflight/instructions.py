"""Does the student's chat template write an instruction that erasure is to take away?"""

from __future__ import annotations

from orca2_gen.chat import Chat
from orca2_gen.dataset.instruction_search import instruction_search
from orca2_gen.dataset.template_texts import ROW, THOUGHTFUL_ROW, row_texts, template_traces
from orca2_gen.strategies import Strategies


def check_erasable(key: str, chat: Chat, strategies: Strategies, *, keeps_thoughts: bool) -> None:
    """Checks that the template writes no words of an instruction into a row.

    Args:
        key: the key in the config that names the student's directory.
        chat: the student's; its template renders rows.
        strategies: the run's.
        keeps_thoughts: whether rows may have thoughts.

    Raises:
        ValueError: it writes some; one line that names key, directory, instruction and words.
    """
    search = instruction_search(strategies)
    for parts in (ROW, THOUGHTFUL_ROW) if keeps_thoughts else (ROW,):
        texts = row_texts(chat, strategies.cautious_message, parts)
        for trace in template_traces(chat, texts, search).values():
            raise ValueError(
                f"{key}: {chat.directory}: the chat template writes {trace.sentence}, into every "
                "row, where no erasure reaches; take the words out of the template or out of the "
                'strategies file, or set erasure.prompts = "instruction_kept"'
            )
