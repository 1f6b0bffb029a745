"""What the commands that go on with a run's stages share."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from orca2_gen.commands import options
from orca2_gen.config.schema import Config
from orca2_gen.records import Role


def with_run(
    config: Config,
    inputs: Any,
    stages: Callable[[Any], None],
    roles: Collection[Role],
    fork: Path | None = None,
    *,
    check: bool = False,
) -> None:
    """Opens the run of a config, on a cluster if there is one, and does these stages in it.

    Args:
        config: the run's.
        inputs: the Inputs that the config names.
        stages: what to do in the open run.
        roles: the models that are started.
        fork: the run whose stages are taken over as far as their keys are equal.
        check: whether committed files are compared with their digests.
    """
    from orca2_gen.console.progress import served
    from orca2_gen.estimates.to_come import teaching_to_come
    from ray_jobs.run import open_run

    to_come = functools.partial(teaching_to_come, config) if "teacher" in roles else None
    with (
        served(Path(config.run_dir), options.metrics_port(), to_come) as track,
        open_run(config, track, roles=roles, fork=fork, inputs=inputs, check=check) as opened,
    ):
        stages(opened)
