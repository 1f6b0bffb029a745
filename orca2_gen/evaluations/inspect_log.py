"""A task's answers -> an evaluation log that Inspect reads (inspect.aisi.org.uk/eval-logs.html).

One JSON file for each model, message and task, under the name that `inspect view` and
`list_eval_logs` look for. Only fields that Inspect documents are written.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import math
import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from orca2_gen.evaluations.logged import Sample, TaskAnswers
from orca2_gen.records import Message

LOG_VERSION = 2
"""Inspect's version of the format."""
_SCORER = "orca2_gen"
_STOPPED = {"stop": "stop", "length": "max_tokens"}


def inspect_name(answers: TaskAnswers) -> str:
    """The name of the log's file: its time, task and id."""
    time = re.sub(r"[:+]", "-", _time(answers.began))
    # Inspect takes a name apart at its underscores.
    task = re.sub(r"[^A-Za-z0-9.-]", "-", answers.task)[:80]
    return f"{time}_{task}_{_id(answers)}.json"


def inspect_log(answers: TaskAnswers) -> dict[str, Any]:
    """The log as JSON values."""
    model = f"vllm/{answers.directory}"
    scores = [sample.score.score for sample in answers.samples]
    is_whole = len(scores) + answers.num_lost >= answers.num_items
    usage = _usage(answers.samples)
    max_tokens = answers.about.max_tokens if answers.about else None
    return {
        "version": LOG_VERSION,
        "status": "success" if is_whole else "cancelled",
        "eval": {
            "eval_id": _id(answers),
            "run_id": answers.stage_key,
            "created": _time(answers.began),
            "task": answers.task,
            "task_id": _id(answers),
            "task_version": 0,
            "task_args": {"message": answers.message},
            "dataset": {
                "name": answers.task,
                "samples": answers.num_items,
                "sample_ids": [sample.problem.problem_id for sample in answers.samples],
                "shuffled": False,
            },
            "model": model,
            "model_generate_config": {"max_tokens": max_tokens, "temperature": 0.0},
            "config": {},
            "packages": {_SCORER: importlib.metadata.version("orca2-gen")},
            "metadata": {
                "model_name": answers.model,
                "lost": answers.num_lost,
                "judge": (answers.about.judge if answers.about else "") or None,
            },
        },
        "plan": {
            "name": "plan",
            "steps": [{"solver": "orca2_gen", "params": {"message": answers.message}}],
        },
        "results": {
            "total_samples": answers.num_items,
            "completed_samples": len(scores),
            "scores": [
                {
                    "name": _SCORER,
                    "scorer": _SCORER,
                    "scored_samples": len(scores),
                    "metrics": {
                        name: {"name": name, "value": value}
                        for name, value in (("accuracy", mean(scores)), ("stderr", stderr(scores)))
                    },
                }
            ],
        },
        "stats": {
            "started_at": _time(answers.began),
            "completed_at": _time(answers.ended),
            "model_usage": {model: usage},
        },
        "samples": [_sample(sample, model) for sample in answers.samples],
    }


def mean(scores: Sequence[float]) -> float:
    """The mean of some scores; 0 of none."""
    return sum(scores) / max(1, len(scores))


def stderr(scores: Sequence[float]) -> float:
    """The standard error of the mean, by the sample's variance; 0 of fewer than two."""
    if len(scores) < 2:
        return 0.0
    centre = mean(scores)
    variance = sum((score - centre) ** 2 for score in scores) / (len(scores) - 1)
    return math.sqrt(variance / len(scores))


def _sample(sample: Sample, model: str) -> dict[str, Any]:
    score, problem = sample.score, sample.problem
    answer = _message(sample.conversation[-1], model)
    targets = [problem.target, *problem.other_targets]
    return {
        "id": problem.problem_id,
        "epoch": 1,
        "input": [_message(message, model) for message in sample.prompt],
        "choices": list(problem.choices) or None,
        "target": targets if problem.other_targets else problem.target,
        "messages": [_message(message, model) for message in sample.conversation],
        "output": {
            "model": model,
            "choices": [
                {"message": answer, "stop_reason": _STOPPED.get(score.finish_reason, "unknown")}
            ],
            "completion": score.text,
            "usage": _usage([sample]),
        },
        "scores": {
            _SCORER: {
                "value": score.score,
                "answer": score.answer,
                "explanation": score.outcome,
                "metadata": {
                    "outcome": score.outcome,
                    "is_forced": score.is_forced,
                    "forced_ending": score.ending[0].text if score.ending else None,
                    "judge": score.judgement[0].text if score.judgement else None,
                },
            }
        },
        "metadata": {
            "answer_type": problem.answer_type,
            "category": problem.category,
            "sub_category": problem.sub_category,
        },
    }


def _message(message: Message, model: str) -> dict[str, Any]:
    content: Any = message.content
    if message.reasoning:
        content = [
            {"type": "reasoning", "reasoning": message.reasoning},
            {"type": "text", "text": message.content},
        ]
    if message.role != "assistant":
        return {"role": message.role, "content": content}
    return {"role": message.role, "content": content, "source": "generate", "model": model}


def _usage(samples: Sequence[Sample]) -> dict[str, int]:
    read = sum(sample.score.num_prompt_tokens for sample in samples)
    written = sum(sample.score.num_completion_tokens for sample in samples)
    return {"input_tokens": read, "output_tokens": written, "total_tokens": read + written}


def _time(time: datetime) -> str:
    return time.isoformat(timespec="seconds")


def _id(answers: TaskAnswers) -> str:
    """22 letters and digits, as Inspect's own ids have, equal for equal evaluations."""
    named = "\0".join((answers.model, answers.stage_key, answers.message, answers.task))
    return hashlib.sha256(named.encode()).hexdigest()[:22]
