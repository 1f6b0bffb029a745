"""Every Ray process that runs our code is offline from its first line on, on any cluster."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from orca2_gen.offline import OFFLINE_ENVIRONMENT
from tests.faults.drivers import ROOT
from tests.faults.heads import ray_head

pytestmark = pytest.mark.slow

# /proc/self/environ is the environment at the start of a process: no import can have set it.
DRIVER = """
import json, sys, tempfile
from pathlib import Path
from orca2_gen.config.engine import ScriptedEngineConfig
from orca2_gen.config.schema import RationalesConfig
from orca2_gen.provenance.inputs import Inputs, with_engine
from orca2_gen.run_directory.engine_figures import EngineFigures
from orca2_gen.strategies import load_strategies
from ray_jobs.engines import placement
from ray_jobs.engines.logs import EngineLog
from ray_jobs.cluster import ray_instance
import ray

def given(actor=None):
    found = open("/proc/self/environ", "rb").read().decode().split(chr(0))
    return dict(line.split("=", 1) for line in found if "=" in line)

if sys.argv[2] == "own variables":
    placement.actor_environment = lambda config: {"VLLM_CPU_OMP_THREADS_BIND": "0"}
config = ScriptedEngineConfig(engine="scripted", tokenizer=sys.argv[1])
run_dir = Path(tempfile.mkdtemp())
nothing = Inputs(
    strategies=load_strategies(None),
    taxonomy={},
    taxonomy_digest=None,
    tokenizers={},
    models={},
    tasks={},
)
with ray_instance():
    engine = placement.start_engine(
        config,
        placement.placement_on(config, []),
        taken=(),
        is_shared=False,
        node_id="",
        log=EngineLog(path=run_dir / "engines" / "student-0.log"),
        figures=EngineFigures(start="1", stage="scores", model="student", replica=0, node=""),
        run_dir=run_dir,
        inputs=with_engine(nothing, config),
        rationales=RationalesConfig(),
        run_seed=0,
        stall_seconds=60.0,
        request_seconds=None,
    )
    task = ray.remote(num_cpus=1)(given)
    print(json.dumps(ray.get([engine.actor.__ray_call__.remote(given), task.remote()])))
    engine.end()
"""


def test_actors_and_tasks_are_offline_on_a_cluster_that_is_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, chatml_dir: Path
) -> None:
    for name in OFFLINE_ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    with ray_head(tmp_path / "home") as head:
        for kind in ("no variables", "own variables"):
            done = subprocess.run(
                [sys.executable, "-c", DRIVER, str(chatml_dir), kind],
                cwd=ROOT,
                env=head.environment | {"RAY_ADDRESS": head.gcs_address},
                capture_output=True,
                text=True,
                timeout=300,
            )
            assert done.returncode == 0, done.stderr
            actor, task = json.loads(done.stdout.splitlines()[-1])
            assert OFFLINE_ENVIRONMENT.items() <= actor.items()
            assert OFFLINE_ENVIRONMENT.items() <= task.items()
            assert ("VLLM_CPU_OMP_THREADS_BIND" in actor) == (kind == "own variables")
        # So it is not the cluster's; `ray start --disable-usage-stats` itself sets this one.
        given = head.raylet.environ().keys() & OFFLINE_ENVIRONMENT.keys()
        assert given == {"RAY_USAGE_STATS_ENABLED"}
