"""Engines whose ranks lie on several nodes: each lives in a placement group that ends with it.

vLLM's ray executor needs GPUs, so the engines here are scripted and the groups hold CPUs; the
product's own code makes, keeps and removes the groups.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.exceptions import RayActorError
from ray.util import placement_group_table, remove_placement_group

from orca2_gen.config.engine import VLLMEngineConfig
from orca2_gen.config.load import load_config
from orca2_gen.engine import engine_arguments
from orca2_gen.foresight.amounts import Amount
from orca2_gen.provenance.inputs import read_inputs
from orca2_gen.run_directory.engine_figures import EngineFigures
from orca2_gen.run_directory.units import Receipt
from ray_jobs.cluster import Node
from ray_jobs.demo import CONFIG
from ray_jobs.engines.logs import EngineLog
from ray_jobs.engines.placement import PlacedEngine, actor_options, plan_placement, start_engine
from ray_jobs.pipeline import read_tasks, score_student
from ray_jobs.run import Run, open_run
from tests.conftest import FinishedRun
from tests.faults.faulty import happened, plant
from tests.ray_jobs.engines.grouped import RANKS, across_nodes, place_in_groups

pytestmark = pytest.mark.usefixtures("local_ray")
# Ray's processes cannot import a test module.
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])

CPUS = 0.01


@pytest.fixture(autouse=True)
def in_groups(monkeypatch: pytest.MonkeyPatch, local_ray: None) -> None:
    place_in_groups(monkeypatch.setattr, CPUS)


def states() -> dict[str, str]:
    """Id of every group so far -> its state."""
    return {name: group["state"] for name, group in placement_group_table().items()}


def becomes_removed(group: str, seconds: float = 30.0) -> bool:
    end = time.monotonic() + seconds
    while states()[group] != "REMOVED" and time.monotonic() < end:
        time.sleep(0.05)
    return states()[group] == "REMOVED"


def group_of(engine: PlacedEngine) -> str:
    """The id of the group that the actor of an engine reports as its own."""
    ask = engine.actor.__ray_call__
    found: str = ray.get(
        ask.remote(lambda actor: ray.get_runtime_context().get_placement_group_id())
    )
    return found


def started(undisturbed: FinishedRun, run_dir: Path) -> PlacedEngine:
    config = undisturbed.config
    return start_engine(
        config.student,
        across_nodes(config.student, []),
        taken=(),
        is_shared=False,
        node_id="",
        log=EngineLog(path=run_dir / "engines" / "student-0.log"),
        figures=EngineFigures(start="1", stage="scores", model="student", replica=0, node=""),
        run_dir=run_dir,
        inputs=read_inputs(config),
        rationales=config.rationales,
        run_seed=0,
        stall_seconds=60.0,
        request_seconds=None,
    )


def test_an_engine_across_nodes_is_in_a_group_of_its_own_that_ends_with_it(
    undisturbed: FinishedRun, tmp_path: Path
) -> None:
    before = states()
    engine = started(undisturbed, tmp_path / "run")
    ray.get(engine.actor.ready.remote())
    [group] = states().keys() - before.keys()
    table = placement_group_table()[group]
    assert table["state"] == "CREATED" and table["strategy"] == "PACK"
    assert list(table["bundles"].values()) == [{"CPU": CPUS}] * RANKS
    assert group_of(engine) == group == engine.group.id.hex()
    engine.end()
    assert becomes_removed(group)
    with pytest.raises(RayActorError):
        ray.get(engine.actor.ready.remote())


def test_the_actor_holds_a_place_in_its_group_and_dies_when_the_group_is_removed(
    undisturbed: FinishedRun, tmp_path: Path
) -> None:
    engine = started(undisturbed, tmp_path / "run")
    ray.get(engine.actor.ready.remote())
    remove_placement_group(engine.group)
    with pytest.raises(RayActorError):
        end = time.monotonic() + 30
        while time.monotonic() < end:
            ray.get(engine.actor.ready.remote())
    engine.end()  # both are gone already, which raises nothing


class Seen:
    """A run's own groups at each receipt of its scores: all of them, and those of its actors."""

    def __init__(self) -> None:
        self.before = states()
        self.at: list[dict[str, str]] = []
        self.of_actors: list[list[str]] = []
        self.run: Run | None = None
        self.then: Callable[[], None] = lambda: None
        """Function to call after each look."""

    def look(self, receipt: Receipt) -> None:
        assert self.run is not None
        if receipt.stage != "scores":
            return
        self.at.append({name: now for name, now in states().items() if name not in self.before})
        found = []
        for engine in (r.engine for r in self.run.replicas[0].all if r.is_up and r.engine):
            with suppress(RayActorError):  # dead, but the driver has not noticed yet
                found.append(group_of(engine))
        self.of_actors.append(found)
        self.then()

    @contextmanager
    def track(self, stage: str, amount: Amount) -> Iterator[Callable[[Receipt], None]]:
        yield self.look

    def score(self, undisturbed: FinishedRun, run_dir: Path, *sets: str) -> list[str]:
        """The lines that a run says while it is scored."""
        said: list[str] = []
        config = load_config(
            undisturbed.config_file, [f"run_dir={run_dir}", "dispatch.backoff_seconds=0.1", *sets]
        )
        with open_run(config, self.track, said.append) as self.run:
            read_tasks(self.run)
            score_student(self.run)
        return said


def with_state(groups: dict[str, str], state: str) -> set[str]:
    return {name for name, found in groups.items() if found == state}


def test_every_replica_has_a_group_while_its_stage_runs_and_none_afterwards(
    undisturbed: FinishedRun, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    plant(run_dir, slow={"sums/train/s11": 15.0})  # still open when the second engine is up
    seen = Seen()
    seen.score(undisturbed, run_dir, "student.replicas=2", "student.max_num_seqs=1")
    assert max(len(groups) for groups in seen.of_actors) == 2
    for groups, of_actors in zip(seen.at, seen.of_actors, strict=True):
        assert len(of_actors) == len(set(of_actors)) > 0
        assert set(of_actors) <= with_state(groups, "CREATED")
    assert len(seen.at[-1]) == 2
    assert all(becomes_removed(group) for group in seen.at[-1])


def test_the_group_of_a_failed_start_is_removed_and_the_next_start_makes_another(
    undisturbed: FinishedRun, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    plant(run_dir, fail_starts=1)
    seen = Seen()
    said = seen.score(undisturbed, run_dir)
    assert happened(run_dir, "fail_starts") == 1 and any("did not start" in line for line in said)
    last, [group] = seen.at[-1], seen.of_actors[-1]
    assert len(last) == 2
    assert with_state(last, "CREATED") == {group}
    assert with_state(last, "REMOVED") == last.keys() - {group}
    assert becomes_removed(group)


def test_the_group_of_an_engine_that_never_comes_up_is_removed(
    undisturbed: FinishedRun, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    plant(run_dir, slow_start=600)
    seen = Seen()
    with pytest.raises(RuntimeError, match="was not up after 1 s"):
        seen.score(undisturbed, run_dir, "dispatch.start_seconds=1", "dispatch.max_failed_starts=2")
    made = states().keys() - seen.before.keys()
    assert len(made) == 2
    assert all(becomes_removed(group) for group in made)


def test_the_group_of_a_dead_engine_is_removed_and_the_next_engine_has_another(
    undisturbed: FinishedRun, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    plant(run_dir)
    seen = Seen()

    def kill_first() -> None:
        if len(seen.at) == 1:
            assert seen.run is not None
            engine = seen.run.replicas[0].all[0].engine
            assert engine is not None
            pid = ray.get(engine.actor.__ray_call__.remote(lambda actor: os.getpid()))
            os.kill(pid, signal.SIGKILL)

    seen.then = kill_first
    said = seen.score(undisturbed, run_dir, "student.max_num_seqs=1")
    assert sum("died with" in line for line in said) == 1
    [first], [second] = seen.of_actors[0], seen.of_actors[-1]
    assert first != second
    assert with_state(seen.at[0], "CREATED") == {first}
    assert seen.at[-1] == {first: "REMOVED", second: "CREATED"}
    assert becomes_removed(second)


def test_the_group_of_an_interrupted_stage_is_removed(
    undisturbed: FinishedRun, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    plant(run_dir)
    seen = Seen()

    def interrupt() -> None:
        raise KeyboardInterrupt

    seen.then = interrupt
    with pytest.raises(KeyboardInterrupt):
        seen.score(undisturbed, run_dir)
    [group] = seen.at[0]
    assert seen.at[0][group] == "CREATED"
    assert becomes_removed(group)


def test_vllm_is_told_to_put_the_ranks_of_such_an_engine_on_ray() -> None:
    config = VLLMEngineConfig(
        model="/models/teacher", tensor_parallel_size=8, pipeline_parallel_size=2
    )
    plan = plan_placement(config, [Node(gpus=8)] * 2, has_cpu_build=False)
    arguments = engine_arguments(config, plan.executor)
    assert arguments["distributed_executor_backend"] == "ray"
    assert (arguments["tensor_parallel_size"], arguments["pipeline_parallel_size"]) == (8, 2)
    assert len(plan.bundles) == plan.ranks == 16
    assert "num_gpus" not in actor_options(plan), "its ranks would find too few GPUs in the group"


def parallel_config(actor: Any, config: VLLMEngineConfig) -> tuple[str, int, str]:
    """vLLM's settings for an engine's arguments inside an actor: backend, ranks, group."""
    from vllm.engine.arg_utils import AsyncEngineArgs

    arguments = AsyncEngineArgs(**engine_arguments(config, "ray"))
    found = arguments.create_engine_config().parallel_config
    return found.distributed_executor_backend, found.world_size, found.placement_group.id.hex()


@pytest.mark.engine
@pytest.mark.slow
def test_vllm_takes_the_group_of_its_actor_for_its_ranks(
    undisturbed: FinishedRun, tmp_path: Path
) -> None:
    config = load_config(CONFIG, ["teacher.tensor_parallel_size=2"]).teacher
    engine = started(undisturbed, tmp_path / "run")
    found = ray.get(engine.actor.__ray_call__.remote(parallel_config, config))
    assert found == ("ray", 2, engine.group.id.hex())
    engine.end()
