"""The rows of a shard -> the rows that trainers' loaders read, column by column in Arrow.

    messages            messages: role, content and, where thoughts are kept, reasoning_content
    prompt_completion   prompt and completion: the same messages, the last one apart (TRL)
    tokens              input_ids, attention_mask, labels
    sharegpt            conversations: from (system, human, gpt), value
    alpaca              instruction, input, output, system, history
    preference          prompt, chosen, rejected: see preference.py

Every row begins with its problem_id, task, strategy and attempt, of which the first and the last
tell it from all others; TRL, axolotl, LLaMA-Factory and
transformers' Trainer leave columns out that they do not know. What a shape cannot hold is refused:
a trainer would leave it out without a word.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from orca2_gen.dataset.origins import COLUMN, PROVENANCE
from orca2_gen.dataset.shards import column_in, features_of, labels_of, names_in

Shape = Literal["messages", "prompt_completion", "tokens", "sharegpt", "alpaca", "preference"]
SHAPES: tuple[Shape, ...] = get_args(Shape)[:-1]
"""The shapes whose rows are the dataset's; pairs need its run too (preference.py)."""
Places = np.ndarray[Any, np.dtype[Any]]

THOUGHT = "reasoning_content"
"""The key of a thought in a message. The templates of Qwen3, GLM 4.5, Nemotron 3, MiniMax and Seed
read it, it is axolotl's default `field_thinking`, and TRL parses the completions of most families
into it. Messages without a thought hold an empty text, since null is written out as `None` by
templates that only ask whether the key is there. (gpt-oss reads `thinking`, Gemma 4 `reasoning`;
LLaMA-Factory reads no thought at all.)"""

_TEXT, _IDS = pa.string(), pa.list_(pa.int32())
_KEPT = {"problem_id": _TEXT, "task": _TEXT, "strategy": _TEXT, "attempt": pa.int64()}
_SPEAKERS = {"system": "system", "user": "human", "assistant": "gpt"}
"""Role -> its name in sharegpt; the system message is the first turn, where TRL, axolotl and
LLaMA-Factory all look for it."""
_HOLDS_NO_THOUGHT = ("sharegpt", "alpaca")
_TAKES_ONE_ANSWER = ("messages", "sharegpt", "alpaca")


def shape_schema(shape: Shape, shard: pa.Schema, has_provenance: bool = False) -> pa.Schema:
    """The schema of a shape's rows, for shards of this schema, with its `datasets` features.

    Raises:
        ValueError: the rows' provenance is wanted, and the shards have none.
    """
    turn = [("role", _TEXT), ("content", _TEXT)]
    if keeps_thoughts(shard):
        turn.append((THOUGHT, _TEXT))
    turns = pa.list_(pa.struct(turn))
    columns = {
        "messages": [("messages", turns)],
        "prompt_completion": [("prompt", turns), ("completion", turns)],
        # axolotl takes rows for encoded only if all three are there.
        "tokens": [("input_ids", _IDS), ("attention_mask", pa.list_(pa.int8())), ("labels", _IDS)],
        "sharegpt": [("conversations", pa.list_(pa.struct([("from", _TEXT), ("value", _TEXT)])))],
        "alpaca": [
            *((name, _TEXT) for name in ("instruction", "input", "output", "system")),
            ("history", pa.list_(pa.list_(_TEXT))),
        ],
    }
    last = []
    if has_provenance:
        if COLUMN not in shard.names:
            raise ValueError(
                f"the dataset has no column {COLUMN}: an older version wrote it, or no run; remove "
                "it and run `orca2 run` again, or export without --provenance"
            )
        last = [(COLUMN, PROVENANCE)]
    schema = pa.schema([*_KEPT.items(), *columns[shape], *last])
    about = {"info": {"features": features_of(schema)}}
    return schema.with_metadata({"huggingface": json.dumps(about)})


def keeps_thoughts(shard: pa.Schema) -> bool:
    """Whether the messages of a shard have a column for thoughts."""
    turn = shard.field("messages").type.value_type
    return any(field.name == "reasoning" for field in turn)


def shaped(batch: pa.RecordBatch, shape: Shape, schema: pa.Schema) -> pa.RecordBatch:
    """The rows of a batch of a shard in this shape.

    Args:
        batch: the rows.
        shape: the shape.
        schema: what `shape_schema` gives for the shards.

    Raises:
        ValueError: the shape cannot hold a row, or the row teaches nothing; the message names it.
    """
    _check_tokens(batch)
    names = [*_KEPT, *([COLUMN] if COLUMN in schema.names else [])]
    made: dict[str, pa.Array] = {name: column_in(batch, name) for name in names}
    if shape == "tokens":
        made |= _tokens(batch)
    else:
        turns = _turns_of(batch)
        _check_turns(turns, shape)
        made |= _columns(turns, shape)
    columns = [made[field.name].cast(field.type) for field in schema]
    return pa.record_batch(columns, schema=schema)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Turns:
    """The messages of a batch, one after the other."""

    names: Sequence[str]
    """The rows' names for people."""
    starts: Places
    """The place of each row's first message, and the end of the last row's."""
    roles: pa.Array
    contents: pa.Array
    thoughts: pa.Array | None
    """None unless the dataset keeps them."""

    @property
    def lengths(self) -> Places:
        return np.diff(self.starts)

    @property
    def last(self) -> Places:
        """The place of each row's last message."""
        return self.starts[1:] - 1


def _turns_of(batch: pa.RecordBatch) -> _Turns:
    messages = batch.column("messages")
    turns = messages.flatten()
    return _Turns(
        names=names_in(batch),
        starts=starts_of(messages),
        roles=turns.field("role"),
        contents=turns.field("content"),
        thoughts=turns.field("reasoning") if keeps_thoughts(batch.schema) else None,
    )


def _check_turns(turns: _Turns, shape: Shape) -> None:
    """Checks that the shape holds every row, and that its text trains what its ids train."""
    if turns.thoughts is not None and shape in _HOLDS_NO_THOUGHT:
        has_thought = pc.not_equal(turns.thoughts, "").to_numpy(zero_copy_only=False)
        count = np.concatenate(([0], np.cumsum(has_thought)))
        _refuse(
            turns,
            np.diff(count[turns.starts]) > 0,
            f"has a thought, which {shape} has no place for; export messages, prompt_completion "
            'or tokens, or make the dataset with rationales.thoughts = "drop"',
        )
    is_answered = (turns.lengths > 0) & _are(turns, turns.last, "assistant")
    _refuse(turns, ~is_answered, "does not end with an assistant's message; export tokens")
    if shape in _TAKES_ONE_ANSWER:
        is_plain = np.isin(turns.lengths, (2, 3)) & _are(turns, turns.last - 1, "user")
        is_plain &= (turns.lengths != 3) | _are(turns, turns.starts[:-1], "system")
        _refuse(
            turns,
            ~is_plain,
            "is not a system message, a user's and an answer, and a trainer that reads "
            f"{shape} would train other tokens than the row's; export tokens or prompt_completion",
        )


def _refuse(turns: _Turns, rows: np.ndarray[Any, Any], fault: str) -> None:
    if rows.any():
        raise ValueError(f"{turns.names[int(np.flatnonzero(rows)[0])]} {fault}")


def _are(turns: _Turns, places: Places, role: str) -> np.ndarray[Any, Any]:
    """Whether the message at each place is of the role; false where no message is."""
    found = pc.equal(turns.roles, role).to_numpy(zero_copy_only=False)
    is_there = (places >= 0) & (places < len(found))
    are: np.ndarray[Any, Any] = np.zeros(len(places), bool)
    are[is_there] = found[places[is_there]]
    return are


def _columns(turns: _Turns, shape: Shape) -> dict[str, pa.Array]:
    """The columns of a shape of messages, besides those that every row keeps."""
    if shape == "messages":
        return {"messages": _listed(turns, turns.starts, np.arange(len(turns.roles)))}
    if shape == "prompt_completion":
        rows = np.arange(len(turns.starts))
        prompt = np.delete(np.arange(len(turns.roles)), turns.last)
        return {
            "prompt": _listed(turns, turns.starts - rows, prompt),
            "completion": _listed(turns, rows, turns.last),
        }
    if shape == "sharegpt":
        place = pc.index_in(turns.roles, value_set=pa.array(list(_SPEAKERS)))
        speakers = pa.array(list(_SPEAKERS.values())).take(place)
        said = pa.StructArray.from_arrays([speakers, turns.contents], ["from", "value"])
        return {"conversations": pa.ListArray.from_arrays(_offsets(turns.starts), said)}
    empty = pa.repeat(pa.scalar("", _TEXT), len(turns.names))
    first = turns.contents.take(pa.array(turns.starts[:-1]))
    none = pa.array(np.zeros(len(turns.starts), np.int32))
    return {
        "instruction": turns.contents.take(pa.array(turns.last - 1)),
        "input": empty,
        "output": turns.contents.take(pa.array(turns.last)),
        "system": pc.if_else(pa.array(turns.lengths == 3), first, empty),
        "history": pa.ListArray.from_arrays(none, pa.array([], pa.list_(_TEXT))),
    }


def _listed(turns: _Turns, starts: Places, places: Places) -> pa.ListArray:
    """Lists of the messages at these places."""
    columns = {"role": turns.roles, "content": turns.contents}
    if turns.thoughts is not None:
        columns[THOUGHT] = turns.thoughts
    said = pa.StructArray.from_arrays(list(columns.values()), list(columns))
    return pa.ListArray.from_arrays(_offsets(starts), said.take(pa.array(places)))


def _tokens(batch: pa.RecordBatch) -> dict[str, pa.Array]:
    ids = batch.column("input_ids").cast(_IDS)
    ones = pa.array(np.ones(len(ids.flatten()), np.int8))
    return {
        "input_ids": ids,
        "attention_mask": pa.ListArray.from_arrays(_offsets(starts_of(ids)), ones),
        "labels": labels_of(ids, batch.column("num_prompt_tokens")),
    }


def _check_tokens(batch: pa.RecordBatch) -> None:
    """Checks that each row has a token to learn, as training does."""
    lengths = batch.column("input_ids").value_lengths().to_numpy()
    prompts = batch.column("num_prompt_tokens").to_numpy()
    is_empty = (prompts < 0) | (np.maximum(prompts, 1) >= lengths)
    if is_empty.any():
        row = int(np.flatnonzero(is_empty)[0])
        raise ValueError(
            f"{names_in(batch)[row]} has {lengths[row]} tokens and "
            f"num_prompt_tokens {prompts[row]}, which leaves nothing to learn; make the dataset "
            "again without it"
        )


def starts_of(lists: pa.ListArray) -> Places:
    """Where each list begins in `lists.flatten()`, and the end of the last."""
    offsets = lists.offsets.to_numpy()
    starts: Places = offsets - offsets[0]
    return starts


def _offsets(starts: Places) -> pa.Array:
    return pa.array(starts.astype(np.int32))
