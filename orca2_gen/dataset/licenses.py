"""The licenses of models and tasks -> what a dataset's card can say of the rows' own."""

from __future__ import annotations

import re
from dataclasses import dataclass

from orca2_gen.dataset.facts import RunFacts
from orca2_gen.dataset.markdown import one_line

NOT_STATED = "not stated"
OTHER = "other"
_KNOWN_FORM = re.compile(r"[a-z0-9][a-z0-9.-]{0,60}")
"""The form of Hugging Face's names; nothing else is taken for one."""
_MOST_LISTED = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Licensing:
    """What can be said of the license of a dataset's rows."""

    license: str
    """The one license of all models and tasks, or `other`."""
    stated: tuple[str, ...]
    """A line for each different license, with what has it."""


def licensing(facts: RunFacts) -> Licensing:
    """The Licensing of the rows that a run made."""
    of: dict[str, list[str]] = {}
    for model in facts.models:
        if model.license or model.engine != "scripted":  # a script is nobody's work
            of.setdefault(_folded(model.license), []).append(f"{model.role} {model.name}")
    for source in facts.sources:
        of.setdefault(_folded(source.license), []).append(f"task {source.task}")
    found = sorted(of, key=lambda license: (license == NOT_STATED, license))
    alone = found[0] if len(found) == 1 else ""
    is_known = alone != NOT_STATED and _KNOWN_FORM.fullmatch(alone)
    return Licensing(
        license=alone if is_known else OTHER,
        stated=tuple(f"{license}: {_listed(of[license])}" for license in found[:_MOST_LISTED]),
    )


def _folded(license: str) -> str:
    """A license by which equal ones are equal; Hugging Face's names have small letters only."""
    text = one_line(license) or NOT_STATED
    return text.lower() if _KNOWN_FORM.fullmatch(text.lower()) else text


def _listed(names: list[str]) -> str:
    shown = ", ".join(one_line(name) for name in names[:_MOST_LISTED])
    more = len(names) - _MOST_LISTED
    return f"{shown} and {more:,} more" if more > 0 else shown


def language_of(facts: RunFacts) -> list[str]:
    """The languages of the rows; none unless every task states its own."""
    languages = {source.language for source in facts.sources}
    return [] if "" in languages else sorted(languages)
