"""Is the judge another model than the one whose answers it judges?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from orca2_gen.config.engine import EngineConfig, VLLMEngineConfig


def check_judge(
    judge: EngineConfig | None,
    name: str,
    scored: EngineConfig,
    models: Mapping[str, str] | None = None,
) -> None:
    """Checks that a judge, if there is one, is another model than the one that is scored.

    Args:
        judge: the judge's engine.
        name: what the scored model is called.
        scored: its engine.
        models: directory -> digest of its weights; without them directories are compared.

    Raises:
        ValueError: it is the same; one line that names the key.
    """
    # A scripted engine has no model.
    if not (isinstance(judge, VLLMEngineConfig) and isinstance(scored, VLLMEngineConfig)):
        return
    if models is None:
        is_same = Path(judge.model).resolve() == Path(scored.model).resolve()
    else:
        is_same = models[judge.model] == models[scored.model]
    if is_same:
        raise ValueError(
            f"judge.model: {judge.model} is the {name}'s model, whose answers it would judge; give "
            "another with --set judge.model=DIR"
        )
