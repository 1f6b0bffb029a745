"""rayjob.yaml, which nobody here can apply, against all that it names.

This is the package, its pins, the offline variables, the image, and KubeRay's model in kuberay.py.
"""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.version import Version
from pydantic import ValidationError

from orca2_gen.cli import cli
from orca2_gen.exit_codes import REJECTED, USAGE
from orca2_gen.offline import OFFLINE_ENVIRONMENT
from tests.pins import ROOT, pins
from tests.ray_jobs.kuberay import PodSpec, rayjob

RAYJOB = ROOT / "ray_jobs" / "rayjob.yaml"
DOCKERFILE = ROOT / "ray_jobs" / "Dockerfile"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PINS = pins("constraints.txt")
GI = 2**30
CACHES = {
    "VLLM_CACHE_ROOT",
    "TRITON_CACHE_DIR",
    "TORCHINDUCTOR_CACHE_DIR",
    "FLASHINFER_WORKSPACE_BASE",
}

JOB = rayjob(RAYJOB.read_text()).spec  # fails here if KubeRay does not know a key
CLUSTER = JOB.rayClusterSpec
HEAD, (WORKERS,) = CLUSTER.headGroupSpec, CLUSTER.workerGroupSpecs
PODS = pytest.mark.parametrize(
    "pod", [HEAD.template.spec, WORKERS.template.spec], ids=["head", "worker"]
)


def environment(pod: PodSpec) -> dict[str, str]:
    names = [variable.name for variable in pod.containers[0].env]
    assert len(names) == len(set(names))
    return {variable.name: variable.value for variable in pod.containers[0].env}


def size(quantity: str | int) -> int:
    assert isinstance(quantity, str) and quantity.endswith("Gi")
    return int(quantity.removesuffix("Gi")) * GI


@pytest.mark.parametrize(
    ("found", "instead"),
    [
        ("backoffLimit:", "backOffLimit:"),
        ("backoffLimit: 3", 'backoffLimit: "3"'),
        ("backoffLimit: 3", "podFailurePolicy: {rules: []}"),
        ("backoffLimit: 3", "backoffLimit: 3\n  backoffLimit: 4"),
        ('num-cpus: "0"', "num-cpus: 0"),
        ('value: "30"', "value: 30"),
        ("mode: token", "mode: tokens"),
        ("HTTPMode\n", "HttpMode\n"),
        ("shutdownAfterJobFinishes: true", "shutdownAfterJobFinishes: false"),
        ("        minReplicas: 1\n", ""),
        ("name: shared-memory, mountPath", "name: memory, mountPath"),
        ("memory: 16Gi", "memory: 16GiB"),
        ("jobId: orca2-run", "jobID: orca2-run"),
    ],
)
def test_the_model_refuses_what_the_operator_or_the_api_server_would(
    found: str, instead: str
) -> None:
    text = RAYJOB.read_text()
    assert found in text
    with pytest.raises((ValidationError, yaml.YAMLError)):
        rayjob(text.replace(found, instead))


def commands(entrypoint: str) -> list[list[str]]:
    """The commands of the entrypoint's shell, each as its words."""
    parts = re.split(r"&&|;|\)", entrypoint)
    return [words for part in parts if (words := shlex.split(part))]


def test_the_entrypoint_waits_for_every_node_and_runs_a_command_that_the_package_installs() -> None:
    (python, m, module, number), (script, command, *arguments), *_ = commands(JOB.entrypoint)
    assert (python, m) == ("python", "-m") and (ROOT / module.replace(".", "/")).with_suffix(
        ".py"
    ).exists()
    assert int(number) == 1 + WORKERS.replicas
    assert script in PROJECT["scripts"]
    context = cli.commands[command].make_context(command, arguments)
    mounts = {mount.mountPath for mount in HEAD.template.spec.containers[0].volumeMounts}
    assert f"/{context.params['config_file'].parts[1]}" in mounts


def test_the_entrypoint_stops_its_own_job_after_what_no_retry_mends() -> None:
    assert f" in {USAGE}|{REJECTED}) ray job stop " in JOB.entrypoint
    (stop,) = [words for words in commands(JOB.entrypoint) if words[:3] == ["ray", "job", "stop"]]
    assert stop[-1] == JOB.jobId
    assert JOB.entrypoint.endswith("exit $code")


def test_a_failed_job_is_tried_again_and_a_finished_one_gives_its_gpus_back() -> None:
    assert JOB.backoffLimit >= 1
    assert JOB.shutdownAfterJobFinishes
    assert 0 < JOB.ttlSecondsAfterFinished <= 3600


def test_versions_are_those_of_the_constraints_and_of_the_project() -> None:
    assert Version(CLUSTER.rayVersion) == PINS["ray"]
    tag = f"orca2-gen:{PROJECT['version']}"
    assert {pod.containers[0].image for pod in (HEAD.template.spec, WORKERS.template.spec)} == {tag}
    assert set(re.findall(r"orca2-gen:\S+", DOCKERFILE.read_text())) == {tag}


def test_the_cluster_asks_for_a_token_and_leaves_the_dashboard_inside() -> None:
    assert CLUSTER.authOptions.mode == "token"
    assert Version(CLUSTER.rayVersion) >= Version("2.52.0")
    assert HEAD.serviceType == "ClusterIP"
    assert not HEAD.enableIngress
    assert {port.name for port in HEAD.template.spec.containers[0].ports} == {
        "gcs-server",
        "dashboard",
    }


def test_nothing_runs_on_the_head_but_the_driver_and_every_gpu_is_a_workers() -> None:
    assert HEAD.rayStartParams["num-cpus"] == HEAD.rayStartParams["num-gpus"] == "0"
    assert "nvidia.com/gpu" not in HEAD.template.spec.containers[0].resources.limits
    assert WORKERS.template.spec.containers[0].resources.limits["nvidia.com/gpu"] == 8
    assert WORKERS.minReplicas == WORKERS.replicas == WORKERS.maxReplicas >= 1


@PODS
def test_every_container_is_offline_patient_and_in_front_of_other_processes(pod: PodSpec) -> None:
    variables = environment(pod)
    assert OFFLINE_ENVIRONMENT.items() <= variables.items()
    assert variables["RAY_worker_niceness"] == "0"
    assert 3 < int(variables["RAY_JOB_STOP_WAIT_TIME_S"]) < pod.terminationGracePeriodSeconds
    others = {"RAY_worker_niceness", "RAY_JOB_STOP_WAIT_TIME_S"} | CACHES
    assert variables.keys() == OFFLINE_ENVIRONMENT.keys() | others
    assert pod.containers[0].imagePullPolicy == "IfNotPresent"


@PODS
def test_what_engines_compile_is_kept_on_a_volume_of_its_own(pod: PodSpec) -> None:
    variables = environment(pod)
    paths = {path.split("/")[1] for name, path in variables.items() if name in CACHES}
    assert [mount.name for mount in pod.containers[0].volumeMounts if mount.mountPath[1:] in paths]
    assert len(paths) == 1


@PODS
def test_a_pod_says_how_much_of_its_nodes_disk_it_takes(pod: PodSpec) -> None:
    resources = pod.containers[0].resources
    assert resources.requests == resources.limits
    assert size(resources.limits["ephemeral-storage"]) > 10 * GI


@pytest.mark.parametrize("key", ["nodeSelector", "priorityClassName", "runtimeClassName"])
def test_a_line_that_is_offered_as_a_comment_is_taken_without_its_mark(key: str) -> None:
    text, number = re.subn(rf"^( +)# ({key}: )", r"\1\2", RAYJOB.read_text(), flags=re.MULTILINE)
    cluster = rayjob(text).spec.rayClusterSpec
    pods = [cluster.headGroupSpec.template.spec, cluster.workerGroupSpecs[0].template.spec]
    assert number == sum(bool(getattr(pod, key)) for pod in pods) > 0
    assert getattr(pods[1], key)  # the nodes that have GPUs


@PODS
def test_models_cannot_be_written_and_the_rest_can(pod: PodSpec) -> None:
    volumes = {volume.name: volume for volume in pod.volumes}
    for path, is_fixed in (("/models", True), ("/runs", False), ("/cache", False)):
        (mount,) = [m for m in pod.containers[0].volumeMounts if m.mountPath == path]
        claim = volumes[mount.name].persistentVolumeClaim
        assert claim is not None
        assert (mount.readOnly, claim.readOnly) == (is_fixed, is_fixed)


@PODS
def test_shared_memory_holds_the_object_store_and_fits_into_the_container(pod: PodSpec) -> None:
    (mount,) = [m for m in pod.containers[0].volumeMounts if m.mountPath == "/dev/shm"]
    (memory,) = [volume.emptyDir for volume in pod.volumes if volume.name == mount.name]
    assert memory is not None and memory.medium == "Memory"
    group = HEAD if pod is HEAD.template.spec else WORKERS
    assert int(group.rayStartParams["object-store-memory"]) < size(memory.sizeLimit)
    assert 2 * size(memory.sizeLimit) < size(pod.containers[0].resources.limits["memory"])


@PODS
def test_a_pod_has_no_privileges(pod: PodSpec) -> None:
    assert pod.securityContext.runAsNonRoot and pod.securityContext.runAsUser == 1000
    assert pod.securityContext.seccompProfile.type == "RuntimeDefault"
    assert not pod.containers[0].securityContext.allowPrivilegeEscalation
    assert pod.containers[0].securityContext.capabilities.drop == ["ALL"]
    assert not pod.automountServiceAccountToken


@pytest.mark.parametrize("file", [RAYJOB, DOCKERFILE, ROOT / ".dockerignore"], ids=lambda f: f.name)
def test_no_secret_and_no_registry_is_written_down(file: Path) -> None:
    text = file.read_text(encoding="ascii")
    for name in OFFLINE_ENVIRONMENT:
        text = text.replace(name, "")
    assert not re.findall(r"(?i)(?:_token|password|api_?key|secret)\s*[:=]\s*\S", text)
    assert not [
        word for word in re.findall(r"[\w+/-]{24,}", text) if re.search(r"\d.*\d.*\d", word)
    ]
    assert set(re.findall(r"https?://[\w.]+", text)) <= {"http://127.0.0.1"}
    assert not re.search(r"index-url|--trusted-host", text)


def test_both_files_say_that_they_were_never_tried() -> None:
    assert "# NEVER RUN." in RAYJOB.read_text()
    assert "# NEVER BUILT." in DOCKERFILE.read_text()
