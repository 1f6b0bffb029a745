"""What may differ between two starts of one training.

Whoever meets a loss that is not finite wants a lower learning rate, or to leave a batch out, and
not to train again from the first step. What has been trained on until then must stay as it was.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from orca2_gen.provenance.recorded import differences
from train.plan import CHANGEABLE


def change_of_plan(
    before: Mapping[str, Any],
    now: Mapping[str, Any],
    *,
    step: int,
    stage_steps: tuple[Sequence[Any], Sequence[int]],
) -> str:
    """What has changed of what `--override` may change, as `key: old -> new`; "" if nothing.

    Steps to skip that are not done are no change: they may be added at any time.

    Args:
        before: determinants of the state that is continued.
        now: those of this start.
        step: steps done.
        stage_steps: steps of each stage, before and now.

    Raises:
        ValueError: something else has changed, or the length of a stage that is done.
    """
    if found := differences(_fixed(before, step), _fixed(now, step)):
        raise ValueError(found)
    done = 0
    for number, (old, new) in enumerate(zip(*stage_steps, strict=False), 1):
        begun = step - done
        done += old
        if done <= step and old != new:
            raise ValueError(f"stage {number} is done, and its steps: {old} -> {new}")
        if 0 < begun < old and new < begun:
            raise ValueError(f"stage {number} stands at its step {begun}, and its steps: -> {new}")
    return differences(_without_skipped(before), _without_skipped(now))


def _fixed(determinants: Mapping[str, Any], step: int) -> Any:
    """The determinants without what may change after a step."""
    fixed = json.loads(json.dumps(determinants))
    plan = fixed.get("plan")
    if isinstance(plan, dict):
        stages = [stage for stage in plan.get("stages") or () if isinstance(stage, dict)]
        skipped = [each for each in plan.pop("skip_steps", None) or () if each <= step]
        for part in (plan, *stages):
            for key in CHANGEABLE:
                part.pop(key, None)
        plan["skip_steps"] = skipped
    return fixed


def _without_skipped(determinants: Mapping[str, Any]) -> Any:
    plan = determinants.get("plan")
    if not isinstance(plan, dict):
        return determinants
    kept = {key: value for key, value in plan.items() if key != "skip_steps"}
    return {**determinants, "plan": kept}
