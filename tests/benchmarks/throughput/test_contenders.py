from __future__ import annotations

import os

from benchmarks.throughput.contenders import WholePath
from benchmarks.throughput.runs import untracked
from orca2_gen.config.load import load_config
from ray_jobs.pipeline import read_tasks
from ray_jobs.run import open_run
from ray_jobs.units import committed_problems, groups
from tests.conftest import Write


def test_the_whole_path_is_asked_what_its_engine_did(write_config: Write, local_ray: None) -> None:
    with open_run(load_config(write_config()), untracked) as run:
        read_tasks(run)
        path = WholePath(run)
        try:
            name = groups(committed_problems(run))[0].name
            asked = path.score(name)
            assert asked.requests > 0 and asked.completion_tokens > 0
            assert path.preemptions() == 0
            assert path.pid != os.getpid()
        finally:
            path.close()
