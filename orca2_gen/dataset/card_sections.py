"""The sections of a card that the facts of a run give, each a heading with a table or a few lines.

An export's card repeats those that hold for its rows too.
"""

from __future__ import annotations

from collections.abc import Mapping

from orca2_gen.dataset.facts import RunFacts
from orca2_gen.dataset.licenses import NOT_STATED, licensing
from orca2_gen.dataset.manifest import Manifest
from orca2_gen.dataset.markdown import escaped, json_line, table

_MOST_ROWS = 50
_MOST_REASONS = 8
_DIGEST = 16
"""Characters of a digest that are shown; manifest.json has all of them."""
DUPLICATE, CONTAMINATED, NEAR = "duplicate", "contaminated", "near_duplicate"
"""Reasons of tasks/matches.py."""


def models(facts: RunFacts) -> str:
    """The models, with the digests of their weights."""
    rows = [
        (
            model.role,
            model.name if model.engine == "vllm" else f"{model.name} (a script, no model)",
            _license(model.license, model.license_from),
            model.digest[:_DIGEST] or "not asked",
            model.tokenizer[:_DIGEST],
        )
        for model in facts.models
    ]
    names = ("role", "model", "license", "weights", "tokenizer")
    return f"## Models\n\n{table(names, rows, _MOST_ROWS, 'models')}"


def _license(license: str, source: str) -> str:
    if not license:
        return NOT_STATED
    return license if source in ("", "config") else f"{license} ({source})"


def sources(facts: RunFacts) -> str:
    """The tasks, with the rows that went in and came out at every stage."""
    rows = [
        (
            source.task,
            source.file,
            source.license or NOT_STATED,
            source.read,
            source.rejected,
            source.accepted,
            source.taught,
            source.rows,
            source.sha256[:_DIGEST],
        )
        for source in facts.sources
    ]
    counts = ("read #", "rejected #", "accepted #", "taught #", "in the dataset #")
    names = ("task", "file", "license", *counts, "sha256")
    text = (
        "## Sources\n\nRows of each task's files: those that were read are rejected or accepted as "
        "problems; taught are the answers of the teacher that were kept.\n\n"
    )
    text += table(names, rows, _MOST_ROWS, "tasks")
    if passed := sum(source.passed_over for source in facts.sources):
        text += f"\nSamples left {passed:,} further rows unread.\n"
    return text


def sampling(facts: RunFacts) -> str:
    """How the teacher was asked."""
    rows = [(name, json_line(value)) for name, value in sorted(facts.sampling.items())]
    return (
        "## The teacher's sampling\n\nThe first attempt at a problem is greedy, the others are "
        f"sampled.\n\n{table(('key', 'value'), rows, _MOST_ROWS, 'keys')}"
    )


def choices(facts: RunFacts) -> str:
    """The strategy of each group, with its score and its lead over the next one."""
    rows = [
        (
            choice.group,
            choice.strategy,
            choice.score,
            choice.margin,
            f"{choice.num_scored_problems:,} of {choice.num_problems:,}",
            choice.reason.replace("_", " ") + (", fragile" if choice.fragile else ""),
        )
        for choice in facts.choices
    ]
    names = ("group", "strategy", "score #", "margin #", "problems scored #", "why")
    return (
        "## Strategies\n\nThe strategy that was chosen for each group of problems by the scores of "
        "the student (or of the teacher, where the settings say so), and its lead over the best "
        f"other one.\n\n{table(names, rows, _MOST_ROWS, 'groups')}"
    )


def rejections(facts: RunFacts) -> str:
    """What each stage took in, kept and rejected, and why."""
    rows = [
        (stage.stage, stage.input, stage.accepted, stage.rejected, _reasons(stage.reasons))
        for stage in facts.stages
    ]
    names = ("stage", "in #", "accepted #", "rejected #", "reasons")
    refused = sum(stage.refused for stage in facts.stages)
    kept = f"\n{refused:,} refused answers of the teacher are stored in the run.\n"
    return (
        "## Rejections\n\nRows of each stage; those of scores and judgements are answers, each of "
        f"one strategy to one problem.\n\n{table(names, rows, _MOST_ROWS, 'stages')}"
        f"{kept if refused else ''}"
    )


def _reasons(reasons: Mapping[str, int]) -> str:
    ordered = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    shown = [f"{num:,} {reason[:40]}" for reason, num in ordered[:_MOST_REASONS]]
    if more := len(ordered) - len(shown) if len(ordered) > len(shown) else 0:
        shown.append(f"{more} more reasons")
    return ", ".join(shown)


def copies(facts: RunFacts) -> str:
    """What was compared with what, and how many copies were found."""
    title = "## Copies and held-out problems\n\n"
    found = facts.copies
    if found is None:
        return f"{title}No row was rejected as a copy of another: the run did not ask for it.\n"
    what = [
        *(["other rows, in its task or another"] if found.duplicates else []),
        *(["held-out problems"] if found.contamination else []),
    ]
    text = f"{title}Every row was compared with {' and with '.join(what) or 'nothing'}, by "
    text += "question, choices and gold answer, before any model was asked. "
    if found.near == "remove":
        text += "Rows that nearly repeat one of these were rejected too.\n\n"
    else:
        text += "Rows that nearly repeat one of these are counted and kept.\n\n"
    rows = [
        (
            source.task,
            source.reasons.get(DUPLICATE, 0),
            source.reasons.get(CONTAMINATED, 0),
            source.reasons.get(NEAR, 0),
            source.near_duplicates,
        )
        for source in facts.sources
    ]
    names = ("task", "duplicates #", "contaminated #", "near, rejected #", "near, kept #")
    text += table(names, rows, _MOST_ROWS, "tasks")
    if found.contamination:
        held_out = [(each.name, each.file, each.sha256[:_DIGEST]) for each in facts.held_out]
        text += "\nHeld out:\n\n" + table(
            ("name", "file", "sha256"), held_out, _MOST_ROWS, "files of problems"
        )
    return text


def licenses(facts: RunFacts) -> str:
    """What is known of the licenses, and what that says of the rows."""
    lines = "".join(f"- {escaped(line, 2000)}\n" for line in licensing(facts).stated)
    return (
        "## Licenses\n\nThese are the licenses of what the rows were made of, as far as the "
        "config, a model's own card or a file beside it states them. Nobody has read them for "
        "this card: questions come from the tasks, answers from the teacher, and the license of "
        f"either may bind the rows.\n\n{lines}"
    )


def uses(manifest: Manifest) -> str:
    """What the rows are meant for, and their limits."""
    lines = "".join(f"- {escaped(line, 2000)}\n" for line in (*use_cases(), *limits(manifest)))
    return f"## Intended use and limits\n\n{lines}"


def use_cases() -> list[str]:
    """What the rows are meant for."""
    return [
        "The rows are meant for fine-tuning the student they were made for, or a model like it, so "
        "that it answers well without being told which strategy to use."
    ]


def limits(manifest: Manifest) -> list[str]:
    """The limits of the rows."""
    found = [
        "The answers are synthetic: a language model wrote them, and no person has read them. What "
        "it is biased to, the rows repeat.",
    ]
    facts = manifest.facts
    if facts is None:
        return found
    if any(model.role == "teacher" and model.engine == "scripted" for model in facts.models):
        found.append("A script played the teacher: the rows are a rehearsal, and teach nothing.")
    if facts.sampling.get("verify") is False:
        found.append("Answers were not compared with the gold answers before they were kept.")
    else:
        found.append(
            "A kept answer ends in the gold answer as the grader reads it; the steps before it may "
            "be wrong all the same. Answers to open problems are not compared."
        )
    student = next((model.name for model in facts.models if model.role == "student"), "")
    found.append(
        f"Strategies were chosen, and input_ids encoded, for the student {student}: another model "
        "may need other strategies, and another tokenizer other ids."
    )
    if not all(source.language for source in facts.sources):
        found.append("The language of the tasks is not stated.")
    return found


def how_to_make(facts: RunFacts) -> str:
    """How to make the rows again."""
    versions = "".join(
        f"- {escaped(', '.join(' '.join(each) for each in kind), 400)}\n" for kind in facts.versions
    )
    body = "\n".join(_settings(facts))
    return (
        "## How to make it again\n\nWith the models and files of the digests above in a config of "
        "these settings, `orca2 run CONFIG` makes the dataset again; how many engines there are "
        "and where they run changes no row. Sampled answers may differ where another device rounds "
        f"otherwise.\n\nEngines worked with:\n\n{versions or '- versions that were not recorded'}"
        f"{'' if versions else chr(10)}\n```text\n{body}\n```\n"
    )


def _settings(facts: RunFacts) -> list[str]:
    lines = []
    for key, value in sorted(facts.settings.items()):
        name = key if key.isidentifier() and key.isascii() else json_line(key)
        if not isinstance(value, list):
            lines.append(f"{name} = {json_line(value)}")
            continue
        lines += [f"{name}.{at} = {json_line(each)}" for at, each in enumerate(value[:_MOST_ROWS])]
        if len(value) > _MOST_ROWS:
            lines.append(f"({len(value) - _MOST_ROWS:,} more {name} are in manifest.json)")
    return lines
