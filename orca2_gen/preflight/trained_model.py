"""Does the model that training starts from read the student's rows?"""

from __future__ import annotations

from pathlib import Path

from orca2_gen.chat import load_chat
from orca2_gen.config.arguments import engine_rendering
from orca2_gen.config.load import engine_directory
from orca2_gen.config.schema import Config
from orca2_gen.preflight.model_config import model_body
from orca2_gen.preflight.template import loaded_chat
from orca2_gen.preflight.vocabulary import vocabulary_lines


def check_trained_model(config: Config) -> None:
    """Checks training.model, if it is set, against the student, whose token ids the rows hold.

    Raises:
        ValueError: its tokenizer or template is another, or it lacks a token; one line.
    """
    directory, student = config.training.model, engine_directory(config.student)
    if directory is None:
        return
    model_body("training.model", Path(directory))
    rendering = engine_rendering(config.student, config.template_date)
    load = load_chat.__wrapped__  # not one that was loaded before the files changed
    chat = loaded_chat("training.model", directory, rendering, load)
    if chat.digest != loaded_chat("student", student, rendering, load).digest:
        raise ValueError(
            f"training.model: {directory} has another tokenizer or chat template than the student, "
            f"{student}, whose token ids the rows hold; give it the student's tokenizer files, or "
            "make it the student"
        )
    vocabulary_lines("training.model", Path(directory), chat, {})
