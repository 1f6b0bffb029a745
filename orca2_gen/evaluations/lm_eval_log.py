"""A task's answers -> files as `lm_eval --log_samples --output_path` leaves them.

OUT/MODEL/samples_TASK_TIME.jsonl and OUT/MODEL/results_TIME.json, with the fields of lm-eval
0.4.9 (lm_eval/loggers/evaluation_tracker.py and its documented output), so that tools that read
its logs read these. The metric is `score`, since a grade may be a fraction.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from orca2_gen.evaluations.about import distinct_label, safe_label
from orca2_gen.evaluations.inspect_log import mean, stderr
from orca2_gen.evaluations.logged import Sample, TaskAnswers
from orca2_gen.grading.grade import GRADER_VERSION

METRIC = "score"
_FILTER = "none"


def lm_eval_directory(answers: TaskAnswers) -> str:
    """The directory of a model under a message."""
    return f"{distinct_label(answers.model)}__{answers.message}"


def samples_name(answers: TaskAnswers, time: datetime) -> str:
    """The name of the file of a task's samples."""
    return f"samples_{distinct_label(answers.task)}_{_stamp(time)}.jsonl"


def results_name(time: datetime) -> str:
    """The name of the file of the results of a model under a message."""
    return f"results_{_stamp(time)}.json"


def lm_eval_samples(answers: TaskAnswers) -> list[dict[str, Any]]:
    """The lines of a task's samples as JSON values."""
    max_tokens = answers.about.max_tokens if answers.about else None
    return [_sample(number, each, max_tokens) for number, each in enumerate(answers.samples)]


def lm_eval_results(tasks: Sequence[TaskAnswers]) -> dict[str, Any]:
    """The results of a model under a message, of all its tasks."""
    assert tasks
    first = tasks[0]
    max_tokens = first.about.max_tokens if first.about else None
    return {
        "results": {each.task: _result(each) for each in tasks},
        "group_subtasks": {each.task: [] for each in tasks},
        "configs": {
            each.task: {
                "task": each.task,
                "output_type": "generate_until",
                "generation_kwargs": _arguments(max_tokens),
                "metric_list": [
                    {"metric": METRIC, "aggregation": "mean", "higher_is_better": True}
                ],
                "metadata": {"version": GRADER_VERSION, "message": each.message},
            }
            for each in tasks
        },
        "versions": {each.task: GRADER_VERSION for each in tasks},
        "n-shot": {each.task: len(_shots(each)) for each in tasks},
        "higher_is_better": {each.task: {METRIC: True} for each in tasks},
        "n-samples": {
            each.task: {"original": each.num_items, "effective": len(each.samples)}
            for each in tasks
        },
        "config": {
            "model": "vllm",
            "model_args": {"pretrained": first.directory},
            "gen_kwargs": _arguments(max_tokens),
        },
        "git_hash": None,
        "date": min(each.began for each in tasks).timestamp(),
        "orca2_gen_version": importlib.metadata.version("orca2-gen"),
        "model_name": first.directory,
        "model_name_sanitized": safe_label(first.directory),
        "system_instruction": first.about.messages.get(first.message) if first.about else None,
    }


def _result(answers: TaskAnswers) -> Mapping[str, Any]:
    scores = [sample.score.score for sample in answers.samples]
    return {
        "alias": answers.task,
        f"{METRIC},{_FILTER}": mean(scores),
        f"{METRIC}_stderr,{_FILTER}": stderr(scores),
    }


def _shots(answers: TaskAnswers) -> Sequence[Any]:
    return answers.samples[0].problem.examples if answers.samples else ()


def _sample(number: int, sample: Sample, max_tokens: int | None) -> dict[str, Any]:
    problem, score = sample.problem, sample.score
    doc = {
        "id": problem.problem_id,
        "question": problem.question,
        "choices": list(problem.choices),
        "target": problem.target,
        "other_targets": list(problem.other_targets),
        "category": problem.category,
        "sub_category": problem.sub_category,
    }
    # As lm-eval's chat models put it: the messages as JSON.
    prompt = json.dumps(
        [{"role": each.role, "content": each.content} for each in sample.prompt],
        ensure_ascii=False,
    )
    return {
        "doc_id": number,
        "doc": doc,
        "target": problem.target,
        "arguments": {"gen_args_0": {"arg_0": prompt, "arg_1": _arguments(max_tokens)}},
        "resps": [[score.text]],
        "filtered_resps": [score.answer],
        "filter": _FILTER,
        "metrics": [METRIC],
        "doc_hash": _hashed(json.dumps(doc, indent=2, ensure_ascii=False)),
        "prompt_hash": _hashed(prompt),
        "target_hash": _hashed(problem.target),
        METRIC: score.score,
        "outcome": score.outcome,
        "is_forced": score.is_forced,
        "judge": score.judgement[0].text if score.judgement else None,
    }


def _arguments(max_tokens: int | None) -> dict[str, Any]:
    return {"until": [], "max_gen_toks": max_tokens, "do_sample": False, "temperature": 0.0}


def _hashed(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _stamp(time: datetime) -> str:
    return time.replace(tzinfo=None).isoformat(timespec="microseconds").replace(":", "-")
