"""The settings of an engine's process, on a Ray that counts two GPUs which do not exist."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

DRIVER = """
import dataclasses, json, os
import ray
from ray_jobs.engines.own_process import settled_place

class Actor:
    def place(self):
        place = settled_place()
        return dataclasses.asdict(place) | {"sees": os.environ.get("CUDA_VISIBLE_DEVICES")}

ray.init(address="local", num_cpus=1, num_gpus=4, include_dashboard=False, log_to_driver=False)
actors = [ray.remote(num_cpus=0, num_gpus=num)(Actor).remote() for num in (1, 2, 0)]
print(json.dumps(ray.get([actor.place.remote() for actor in actors])))
"""


@pytest.mark.parametrize("nosets", [False, True])
def test_every_engine_sees_the_gpus_that_ray_gave_it_and_no_other(nosets: bool) -> None:
    noset = {"RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES": "1"} if nosets else {}
    driver = subprocess.run(
        [sys.executable, "-c", DRIVER],
        cwd=Path(__file__).parents[3],
        env=os.environ | {"RAY_worker_niceness": "15"} | noset,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert driver.returncode == 0, driver.stderr
    one, two, none = json.loads(driver.stdout.splitlines()[-1])
    assert (one["sees"], two["sees"]) == (",".join(one["devices"]), ",".join(two["devices"]))
    assert len({*one["devices"], *two["devices"]}) == 3
    assert none["devices"] == [] and len(none["node_id"]) == 56
    may_lower = os.getuid() == 0  # as the limits of most users do not
    for place in (one, two, none):
        assert place["niceness"] in ((0,) if may_lower else (0, 15))
