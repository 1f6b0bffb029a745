"""Is the judge another model than the one whose answers it judges?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from orca2_gen.config.arguments import scored_engine
from orca2_gen.config.engine import VLLMEngineConfig
from orca2_gen.config.schema import Config


def check_judge(config: Config, models: Mapping[str, str] | None = None) -> None:
    """Checks that the judge is another model than the one that is scored.

    Args:
        config: its judge, if it needs one.
        models: directory -> digest of its weights; without them directories are compared.

    Raises:
        ValueError: it is the same; one line that names the key.
    """
    name, scored = scored_engine(config)
    judge = config.needed_judge
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
