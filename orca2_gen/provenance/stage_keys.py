"""Config -> the determinants of each stage's rows, and the stage keys made of them.

Only settings that change rows belong here. Replicas, devices, batch sizes and addresses say how and
where a run happens: `config.json` records them, no key contains them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from orca2_gen.calls import CALLS_VERSION
from orca2_gen.chat import ENCODING_VERSION
from orca2_gen.config.arguments import (
    Room,
    engine_rendering,
    evaluated_room,
    rooms,
    selection_rule,
)
from orca2_gen.config.engine import EngineConfig, VLLMEngineConfig
from orca2_gen.config.engine_arguments import row_arguments
from orca2_gen.config.load import engine_directory
from orca2_gen.config.schema import Config
from orca2_gen.config.task import STATED, TaskConfig
from orca2_gen.endings import ENDINGS_VERSION
from orca2_gen.grading.grade import GRADER_VERSION
from orca2_gen.judging import JUDGING_VERSION, SYSTEM_MESSAGE
from orca2_gen.prompts import SHOTS_VERSION
from orca2_gen.provenance.inputs import Inputs
from orca2_gen.rationales import ACCEPTANCE_VERSION
from orca2_gen.run_directory.ledger import stage_key
from orca2_gen.selection.blocks import BLOCKS_VERSION, MOST_IN_BLOCK
from orca2_gen.strategies import Strategies
from orca2_gen.tasks.matches import COPIES_VERSION
from orca2_gen.tasks.read import READER_VERSION

PREVIOUS = {
    "problems": "",
    "scores": "problems",
    "judgements": "scores",
    "selections": "judgements",
    "rationales": "selections",
    "examples": "rationales",
    "evaluation_problems": "",
}
"""Stage -> the stage before it, whose key goes into the stage's own."""


def stage_determinants(config: Config, inputs: Inputs) -> dict[str, dict[str, Any]]:
    """Stage -> all that determines its rows, in the config and in the files that it names."""
    strategies, selection = inputs.strategies, config.selection
    return {
        "problems": _reading(config, config.tasks, inputs, rooms(config, strategies))
        | {"select_by": selection.select_by}
        | _copies(config, inputs),
        "scores": _scoring(config, inputs),
        "judgements": judging_determinants(config, config.needed_judge, inputs),
        "selections": {
            "policy": selection.policy,
            "indifference": selection.indifference,
            "none_solved": selection.none_solved,
        },
        "rationales": {
            "engine": engine_determinants(config.teacher, config.run_seed, inputs),
            **_texts(strategies),
            **_rationales(config),
            "encoding": ENCODING_VERSION,
            "acceptance": ACCEPTANCE_VERSION,
            "run_seed": config.run_seed,
            "grader": GRADER_VERSION,
        },
        "examples": {
            "tokenizer": inputs.tokenizers[engine_directory(config.student)],
            **_rendered(config.student, inputs),
            "cautious_message": hashed({"cautious": strategies.cautious_message}),
            "prompts": config.erasure.prompts,
            "encoding": ENCODING_VERSION,
            "max_model_len": config.student.max_model_len,
            **({"keeps_thought": True} if config.rationales.thoughts == "keep" else {}),
        },
        "evaluation_problems": _reading(
            config, config.evaluation.tasks, inputs, (evaluated_room(config),)
        ),
    }


def _rationales(config: Config) -> dict[str, Any]:
    asked = config.rationales.model_dump(exclude={"keep_refused"})
    if config.rationales.per_problem == 1:
        del asked["per_problem"]  # older versions knew no other number
    if config.rationales.thoughts == "drop":
        del asked["thoughts"]  # older versions knew no other way
    return asked


def _texts(strategies: Strategies) -> dict[str, Any]:
    """The parts of the strategies file that determine the prompts of scoring and teaching."""
    return {
        "instructions": hashed(strategies.every_instruction),
        "further_calls": {
            name: list(hashed(dict(enumerate(said))).values())
            for name, said in strategies.further_calls.items()
        },
        "calls": CALLS_VERSION,
        "answer_sentence": strategies.answer_sentence,
    }


def _scoring(config: Config, inputs: Inputs) -> dict[str, Any]:
    strategies, selection = inputs.strategies, config.selection
    rule = selection_rule(config, strategies)
    scorer = config.teacher if selection.policy == "teacher_best" else config.student
    # Which cells a race scores depends on what it looks for.
    race = {
        "delta": selection.delta,
        "indifference": selection.indifference,
        "blocks": [selection.open_requests, MOST_IN_BLOCK],
    }
    return {
        "engine": engine_determinants(scorer, config.run_seed, inputs),
        **_texts(strategies),
        # A policy that needs no scores must not take over those of one that does.
        "needed": rule.needs_scores,
        "names": list(strategies.names),
        "encoding": ENCODING_VERSION,
        "max_tokens": [config.scoring.max_tokens, config.scoring.most_tokens],
        **endings_determinants(config),
        "scored_problems": selection.scored_problems,
        "block_size": selection.block_size,
        "blocks": BLOCKS_VERSION,
        "cautious_arm": selection.cautious_arm,
        "race": race if rule.is_race else None,
        "run_seed": config.run_seed,
        "grader": GRADER_VERSION,
    }


def endings_determinants(config: Config) -> dict[str, Any]:
    """The determinants of forced endings; none where none are asked for, as in older runs."""
    if config.scoring.ending_tokens is None:
        return {}
    return {
        "ask_again": config.scoring.ask_again,
        "answer_max_tokens": config.scoring.answer_max_tokens,
        "ending": ENDINGS_VERSION,
    }


def stage_keys(determinants: dict[str, dict[str, Any]]) -> dict[str, str]:
    """Stage -> its key."""
    keys: dict[str, str] = {}
    for stage, previous in PREVIOUS.items():
        keys[stage] = stage_key(keys.get(previous, ""), determinants[stage])
    return keys


def prompt_digests(strategies: Strategies) -> dict[str, Any]:
    """A hash of every text of the strategies file, by a name of its own."""
    every_text = strategies.every_instruction | {"cautious": strategies.cautious_message}
    for name, said in strategies.further_calls.items():
        every_text |= {f"{name} call {call}": text for call, text in enumerate(said, 1)}
    return hashed(every_text) | {"answer_sentence": strategies.answer_sentence}


def _reading(
    config: Config, tasks: tuple[TaskConfig, ...], inputs: Inputs, room: tuple[Room, ...]
) -> dict[str, Any]:
    found: dict[str, Any] = {
        "tasks": {
            task.name: task.model_dump(exclude={"path", "name", *STATED})
            | {"sha256": inputs.tasks[task.format, task.path]}
            for task in tasks
        },
        "taxonomy": inputs.taxonomy_digest,
        "rows_per_unit": config.rows_per_unit,
        "readers": READER_VERSION,
        "prompts": prompt_digests(inputs.strategies),
        "rooms": {
            r.role: [inputs.tokenizers[r.tokenizer], r.max_model_len, r.max_tokens]
            + ([r.judged_tokens, JUDGING_VERSION] if r.judged_tokens is not None else [])
            for r in room
        },
    }
    if ended := {r.role: [r.scored_tokens, r.ending_tokens] for r in room if r.ending_tokens}:
        found["endings"] = ended
    rendered = {r.role: inputs.rendered.get((r.tokenizer, r.rendering)) for r in room}
    if any(rendered.values()):
        found["rendered"] = {role: about for role, about in rendered.items() if about}
    if any(task.few_shot for task in tasks):
        # No example repeats a held-out question, and their questions depend on no more than this.
        fields = {"format", "answer_type", "columns"}
        held_out = [
            [inputs.tasks[task.format, task.path], task.model_dump(include=fields)]
            for task in config.evaluation.tasks
        ]
        found["few_shot"] = {"text": SHOTS_VERSION, "held_out": sorted(held_out, key=json.dumps)}
    return found


def _copies(config: Config, inputs: Inputs) -> dict[str, Any]:
    """The determinants of which rows are copies; none where no row is rejected for it."""
    asked = config.decontaminate
    if asked is None or not asked.removes:
        return {}
    fields = {"format", "answer_type", "columns"}
    held_out = [
        [inputs.tasks[task.format, task.path], task.model_dump(include=fields)]
        for task in config.held_out
    ]
    return {
        "copies": {
            "version": COPIES_VERSION,
            "duplicates": asked.duplicates,
            **({"near": "remove"} if asked.near == "remove" else {}),
            "held_out": sorted(held_out, key=json.dumps),
        }
    }


def judging_determinants(
    config: Config, judge: EngineConfig | None, inputs: Inputs
) -> dict[str, Any]:
    """The determinants of judgements; without a judge there are none."""
    if judge is None:
        return {"engine": None}
    return {
        "engine": engine_determinants(judge, config.run_seed, inputs),
        "texts": hashed({"system": SYSTEM_MESSAGE}),
        "judging": JUDGING_VERSION,
        "max_tokens": config.judging.max_tokens,
        "max_model_len": judge.max_model_len,
        "encoding": ENCODING_VERSION,
    }


def engine_determinants(engine: EngineConfig, run_seed: int, inputs: Inputs) -> dict[str, Any]:
    tokenizer = inputs.tokenizers[engine_directory(engine)]
    rendered = _rendered(engine, inputs)
    limited = engine.thinking_tokens is not None
    limit = {"thinking_tokens": engine.thinking_tokens} if limited else {}
    if not isinstance(engine, VLLMEngineConfig):
        scripted = {"scripted": engine.accuracy, "tokenizer": tokenizer, "run_seed": run_seed}
        return scripted | rendered | limit
    numerics = engine.model_dump(include={"dtype", "quantization", "kv_cache_dtype"})
    found = {"model": inputs.models[engine.model], "tokenizer": tokenizer, **numerics, **rendered}
    further = row_arguments(engine.engine_arguments, inputs.models)
    return found | limit | ({"engine_arguments": further} if further else {})


def _rendered(engine: EngineConfig, inputs: Inputs) -> dict[str, Any]:
    """What the template's text depends on beside the tokenizer's files; empty if on nothing."""
    source = engine_directory(engine), engine_rendering(engine, inputs.template_date)
    about = inputs.rendered.get(source)
    return {"rendered": dict(about)} if about else {}


def hashed(texts: Mapping[Any, str]) -> dict[str, Any]:
    return {name: hashlib.sha256(text.encode()).hexdigest()[:16] for name, text in texts.items()}
