from __future__ import annotations

from pathlib import Path

import pytest

from orca2_gen.config.load import load_config
from orca2_gen.provenance.inputs import read_texts

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "config",
    [
        "ray_jobs/configs/microworld.toml",
        "ray_jobs/configs/rehearsal.toml",
        "tests/older_run/run.toml",
    ],
)
def test_configs_that_run_pass_every_question(config: str) -> None:
    assert read_texts(load_config(ROOT / config)).strategies.names
