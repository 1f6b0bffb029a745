from __future__ import annotations

import os

import pytest
import ray

from orca2_gen.config_schema import ScriptedEngineConfig, VLLMEngineConfig
from ray_jobs.placement import actor_environment, actor_options, on_this_machine, ray_instance

pytestmark = pytest.mark.usefixtures("local_ray")
VLLM = VLLMEngineConfig(model="/models/student")


def test_a_ray_that_is_up_already_is_used_and_left_up() -> None:
    before = ray.get_runtime_context().gcs_address
    with ray_instance():
        assert ray.get_runtime_context().gcs_address == before
    assert ray.is_initialized()


def test_our_own_ray_listens_on_the_loopback_address_only() -> None:
    assert ray.get_runtime_context().gcs_address.startswith("127.0.0.1:")


def test_every_ray_process_is_offline() -> None:
    @ray.remote(num_cpus=0)
    def environment() -> dict[str, str]:
        return dict(os.environ)

    found = ray.get(environment.remote())
    assert found["HF_HUB_OFFLINE"] == found["VLLM_NO_USAGE_STATS"] == "1"
    assert found["RAY_USAGE_STATS_ENABLED"] == "0"


@pytest.mark.skipif("ray.cluster_resources().get('GPU', 0)", reason="about machines without GPUs")
def test_several_ranks_without_gpus_get_a_core_each() -> None:
    cores = len(os.sched_getaffinity(0))
    config = VLLM.model_copy(update={"tensor_parallel_size": 2, "replicas": cores})
    binds = [
        on_this_machine(config, replica).env["VLLM_CPU_OMP_THREADS_BIND"]
        for replica in range(cores)
    ]  # type: ignore[union-attr]
    assert all(len(set(bind.split("|"))) == min(2, cores) for bind in binds)
    assert {core for bind in binds for core in bind.split("|")} == set(
        map(str, os.sched_getaffinity(0))
    )


def test_a_core_binding_of_the_users_own_is_kept() -> None:
    config = VLLM.model_copy(update={"replicas": 2, "env": {"VLLM_CPU_OMP_THREADS_BIND": "0"}})
    assert actor_environment(on_this_machine(config, 1)) == {"VLLM_CPU_OMP_THREADS_BIND": "0"}


def test_a_lone_engine_and_a_scripted_one_are_left_alone() -> None:
    scripted = ScriptedEngineConfig(engine="scripted", tokenizer="/models/student", replicas=4)
    assert on_this_machine(VLLM, 0) == VLLM
    assert on_this_machine(scripted, 3) == scripted
    assert actor_environment(scripted) == {}


def test_no_actor_is_restarted_by_ray_itself() -> None:
    for config in (VLLM, ScriptedEngineConfig(engine="scripted", tokenizer="/models/student")):
        assert actor_options(config, 7)["max_restarts"] == 0
        assert actor_options(config, 7)["max_concurrency"] == 7
