"""Chat models of each published shape: a template and a tokenizer made like theirs, no weights.

The templates in `templates/` are written for these tests: what they do with roles, dates, thoughts
and markers is what the published ones do, their words are not. `shapes()` lists them with what is
known of each, `directory(shape, root)` writes one as a model directory.
"""

from __future__ import annotations

import json
from pathlib import Path

from orca2_gen.chat import PLAIN, Rendering
from tests.chat.byte_level_shapes import BYTE_LEVEL_SHAPES
from tests.chat.published_shape import PublishedShape
from tests.chat.sentencepiece_shapes import SENTENCEPIECE_SHAPES
from tests.chat.thinking_shapes import THINKING_SHAPES
from tests.conftest import write_tokenizer

TEMPLATES = Path(__file__).with_name("templates")
_SPELLED = (
    "<<SYS>>",
    "<</SYS>>",
    "<|system|>",
    "### Instruction:",
    "### Response:",
    "<0x0A>",
    "<tools>",
    "<response>",
    "<start_of_image>",
)
"""Markers that are ordinary text."""


def shapes() -> tuple[PublishedShape, ...]:
    return (*BYTE_LEVEL_SHAPES, *THINKING_SHAPES, *SENTENCEPIECE_SHAPES)


def rendering(shape: PublishedShape, date: str = PLAIN.date, **further: object) -> Rendering:
    """The Rendering with the policy and the arguments that the shape needs, and further ones."""
    arguments = json.dumps(dict(shape.given) | further, sort_keys=True)
    return Rendering(date=date, system=shape.policy, arguments=arguments)


def directory(shape: PublishedShape, root: Path) -> Path:
    """The shape's model directory below `root`, written unless it is there."""
    folder = root / shape.name
    if (folder / "tokenizer.json").is_file():
        return folder
    tokenizer = shape.tokenizer()
    tokens = {"eos_token": shape.eos} | ({"bos_token": shape.bos} if shape.bos else {})
    if tokenizer.token_to_id("<unk>") is not None:
        tokens["unk_token"] = "<unk>"
    template = (TEMPLATES / f"{shape.template or shape.name}.jinja").read_text(encoding="utf-8")
    write_tokenizer(folder, tokenizer, template, **tokens)
    if shape.further_ends:
        ends = [tokenizer.token_to_id(text) for text in (shape.eos, *shape.further_ends)]
        (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": ends}))
    return folder


def markers() -> tuple[str, ...]:
    """Every marker that a shape's tokenizer or template knows, sorted."""
    added = {
        token.content
        for shape in shapes()
        for token in shape.tokenizer().get_added_tokens_decoder().values()
    }
    return tuple(sorted({*added, *_SPELLED}))
