"""The engines of a config."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from orca2_gen.config.arguments import engines_by_stage
from orca2_gen.config.engine import VLLMEngineConfig
from orca2_gen.config.load import engine_directory
from orca2_gen.config.schema import Config
from orca2_gen.estimates.engines import Engines
from orca2_gen.estimates.models import active_parameters, weight_bytes


def planned_engines(
    config: Config, gpu: str, devices: Mapping[str, tuple[bool, int]]
) -> dict[str, Engines]:
    """Stage -> its engines.

    Args:
        config: the run's.
        gpu: model of all GPUs; empty if unknown.
        devices: role -> whether its engines run on GPUs, and the devices of one.
    """
    found = {}
    for stage, (role, engine) in engines_by_stage(config).items():
        directory = Path(engine_directory(engine))
        is_model = isinstance(engine, VLLMEngineConfig)
        is_on_gpus, ranks = devices[role]
        found[stage] = Engines(
            stage=stage,
            model=directory.name,
            num_parameters=active_parameters(directory) if is_model else None,
            weight_bytes=weight_bytes(directory) if is_model else 0.0,
            gpu=gpu if is_on_gpus else "",
            is_on_gpus=is_on_gpus,
            ranks=max(1, ranks),
            replicas=engine.replicas,
            sequences=engine.sequences,
            directory=str(directory),
            is_scripted=not is_model,
        )
    return found
