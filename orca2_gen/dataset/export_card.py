"""What stands beside an export's rows: its card, README.md, and LLaMA-Factory's dataset_info.json.

The card's `configs` tell `datasets.load_dataset(OUT)` which files are rows; its features keep a
JSONL file from being guessed at, where a text may look like a date.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from orca2_gen.dataset.card import MOST_TASKS, front_matter, rows_of, verdict
from orca2_gen.dataset.card_sections import (
    choices,
    copies,
    licenses,
    models,
    sampling,
    sources,
    uses,
)
from orca2_gen.dataset.export_manifest import ExportManifest
from orca2_gen.dataset.manifest import Manifest
from orca2_gen.dataset.markdown import escaped, table
from orca2_gen.dataset.shapes import THOUGHT
from orca2_gen.run_directory.row_names import rows_in_words

NAME = "orca2"
"""The name of the rows in dataset_info.json."""

_READERS = {
    "messages": """\
- TRL: `SFTConfig(assistant_only_loss=True)`, with a template that marks the answer
  (`{% generation %}`). Without it TRL trains the prompts too: export `prompt_completion` then.
- axolotl: `path: OUT`, `type: chat_template`, `field_messages: messages`.""",
    "prompt_completion": """\
- TRL: `SFTTrainer` with its defaults: the loss is on the completion only. Where the template writes
  a line break behind the end of the turn, as ChatML does, TRL trains that token too: one more a
  row than the dataset does.""",
    "tokens": """\
- TRL: `SFTTrainer` with its defaults: it takes `labels` as they are.
- transformers: `Trainer` with `DataCollatorForSeq2Seq`.
- axolotl: `path: OUT`, no `type`.""",
    "sharegpt": """\
- LLaMA-Factory: `dataset_dir: OUT`, `dataset: orca2`.
- axolotl: `path: OUT`, `type: chat_template`, `field_messages: conversations`,
  `message_property_mappings: {role: from, content: value}`.
- LLaMA-Factory's own template `chatml` trains a line break behind the end of the turn: one more
  token a row than the dataset does.""",
    "alpaca": """\
- LLaMA-Factory: `dataset_dir: OUT`, `dataset: orca2`.
- axolotl: `path: OUT`, `type: alpaca_w_system.load_chat`; it uses no chat template.
- LLaMA-Factory's own template `chatml` trains a line break behind the end of the turn: one more
  token a row than the dataset does.""",
    "preference": """\
- TRL: `DPOTrainer` with its defaults, on the columns `prompt`, `chosen` and `rejected`.
- `chosen` is an accepted answer of the teacher, `rejected` an answer of the same teacher, to the
  same problem and under the same strategy, that the grader found incorrect.""",
}
_PROMPTS = {
    "erased": "Every row's system message is the cautious one: the strategy's instruction is gone.",
    "instruction_kept": "Rows keep their strategy's instruction: this is an ablation.",
    "foreign": "The rows' prompts come from elsewhere, and nothing is known of them.",
}


def export_card(
    made: ExportManifest, source: Manifest, schema: pa.Schema, tasks: dict[str, int]
) -> bytes:
    """The card of an export whose descriptions are not listed yet.

    Args:
        made: the export.
        source: the manifest of the dataset.
        schema: the columns of the export's rows.
        tasks: task -> its rows.
    """
    from huggingface_hub import DatasetCard

    front = front_matter(
        source,
        f"orca2-gen {made.shape}",
        made.rows,
        configs=[
            {
                "config_name": "default",
                # `datasets` names its cache by this block and not by the files, so without a word
                # about these rows it would give those of an export that stood here before.
                "description": f"from {made.source_digest}",
                "data_files": [{"split": "train", "path": f"train-*.{made.format}"}],
            }
        ],
        dataset_info={"features": [_described(column) for column in schema]},
    )
    about = _PROMPTS.get(made.prompts, f"Prompts: {escaped(made.prompts)}.")
    parts = [
        f"# Rows of the shape `{made.shape}`\n",
        f"Exported by {made.made_by} from a dataset whose manifest has the digest "
        f"`{made.source_digest}`. {about}\n",
        f"**Proof of erasure**: {verdict(source)}\n",
        f"{rows_in_words(made.rows, made.problems)}; in the dataset, {made.trained_tokens:,} of "
        f"{made.input_tokens:,} tokens have a loss. export.json lists every file with its SHA-256; "
        "`orca2 verify` checks them. croissant.json describes files and fields for machines.\n",
        *_warnings(made, schema),
        "Load them with `datasets.load_dataset(OUT)`, where OUT is this directory.\n",
        f"{_READERS[made.shape]}\n",
        *_counted(source, tasks),
    ]
    if source.facts is not None:
        told = (models, sources, sampling, choices, copies, licenses)
        parts += [section(source.facts) for section in told]
    parts.append(uses(source))
    return str(DatasetCard(f"---\n{front.to_yaml()}\n---\n\n" + "\n".join(parts))).encode()


def _warnings(made: ExportManifest, schema: pa.Schema) -> Iterator[str]:
    if THOUGHT in str(schema):
        yield (
            f"A thought stands under `{THOUGHT}`, which is empty where a message has none. "
            "LLaMA-Factory does not read it; gpt-oss's template reads `thinking`, Gemma 4's "
            "`reasoning`: rename it for them.\n"
        )
    if made.unpaired is not None:
        yield (
            f"{made.unpaired:,} rows of the dataset make no pair: no incorrect answer to their "
            "problem was kept.\n"
        )
    if made.other_tokens:
        yield (
            f"The texts of {made.other_tokens:,} rows, e.g. {escaped(made.other_tokens_in)}, give "
            "other tokens where a trainer renders and tokenises them with the student's own "
            "template than the dataset trains.\n"
        )


def _counted(source: Manifest, tasks: dict[str, int]) -> list[str]:
    """The section about the rows; of a dataset that counted no more, only their number by task."""
    if source.summary is not None and source.figures is not None:
        return rows_of(source.summary, source.figures)
    counts = sorted(tasks.items())
    return [f"## Rows\n\n{table(('task', 'rows #'), counts, MOST_TASKS, 'tasks')}"]


def _described(column: pa.Field) -> dict[str, Any]:
    """A column in the words of a card, which all versions of `datasets` read."""
    return {"name": column.name, **_type_of(column.type)}


def _type_of(type_: pa.DataType) -> dict[str, Any]:
    if pa.types.is_struct(type_):
        return {"struct": [_described(field) for field in type_]}
    if not pa.types.is_list(type_):
        return {"dtype": "float64" if type_ == pa.float64() else str(type_)}
    item = type_.value_type
    if pa.types.is_struct(item):
        return {"list": [_described(field) for field in item]}
    inner = _type_of(item)
    return {"sequence": inner.get("dtype", inner)}


def dataset_description(shape: str, files: list[str]) -> dict[str, Any] | None:
    """The contents of dataset_info.json; None for a shape that LLaMA-Factory reads otherwise."""
    described: dict[str, dict[str, Any]] = {
        "alpaca": {
            "formatting": "alpaca",
            "columns": {
                "prompt": "instruction",
                "query": "input",
                "response": "output",
                "system": "system",
                "history": "history",
            },
        },
        "sharegpt": {
            "formatting": "sharegpt",
            "columns": {"messages": "conversations"},
            # What is not named here counts as absent once `tags` is there.
            "tags": {
                "role_tag": "from",
                "content_tag": "value",
                "user_tag": "human",
                "assistant_tag": "gpt",
                "observation_tag": "observation",
                "function_tag": "function_call",
                "system_tag": "system",
            },
        },
    }
    if shape not in described:
        return None
    # A folder's files are read in any order and may be nothing but rows; the card names them all.
    place = {"file_name": files[0]} if len(files) == 1 else {"script_url": "."}
    return {NAME: {**place, **described[shape]}}
