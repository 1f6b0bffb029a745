"""rayjob.yaml and the Dockerfile, which nobody here can run, against all that they name.

This is the package, its pins, the offline variables, each other, and KubeRay's model in kuberay.py.
"""

from __future__ import annotations

import fnmatch
import re
import shlex
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version
from pydantic import ValidationError

from orca2_gen.cli import cli
from orca2_gen.offline import OFFLINE_ENVIRONMENT
from tests.ray_jobs.kuberay import PodSpec, rayjob

ROOT = Path(__file__).parents[2]
RAYJOB = ROOT / "ray_jobs" / "rayjob.yaml"
DOCKERFILE = ROOT / "ray_jobs" / "Dockerfile"
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
PINS = dict(
    line.split("==")
    for line in (ROOT / "constraints.txt").read_text().splitlines()
    if not line.startswith("#")
)
GI = 2**30

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
        ("backoffLimit: 3", "backoffLimit: 3\n  backoffLimit: 4"),
        ('num-cpus: "0"', "num-cpus: 0"),
        ('value: "30"', "value: 30"),
        ("mode: token", "mode: tokens"),
        ("HTTPMode\n", "HttpMode\n"),
        ("shutdownAfterJobFinishes: true", "shutdownAfterJobFinishes: false"),
        ("        minReplicas: 1\n", ""),
        ("name: shared-memory, mountPath", "name: memory, mountPath"),
        ("memory: 16Gi", "memory: 16GiB"),
    ],
)
def test_the_model_refuses_what_the_operator_or_the_api_server_would(
    found: str, instead: str
) -> None:
    text = RAYJOB.read_text()
    assert found in text
    with pytest.raises((ValidationError, yaml.YAMLError)):
        rayjob(text.replace(found, instead))


def test_the_entrypoint_is_a_command_that_the_package_installs() -> None:
    script, command, *arguments = shlex.split(JOB.entrypoint)
    assert script in PROJECT["scripts"]
    context = cli.commands[command].make_context(command, arguments)
    mounts = {mount.mountPath for mount in HEAD.template.spec.containers[0].volumeMounts}
    assert f"/{context.params['config_file'].parts[1]}" in mounts


def test_a_failed_job_is_tried_again_and_a_finished_one_gives_its_gpus_back() -> None:
    assert JOB.backoffLimit >= 1
    assert JOB.shutdownAfterJobFinishes
    assert 0 < JOB.ttlSecondsAfterFinished <= 3600


def test_versions_are_those_of_the_constraints_and_of_the_project() -> None:
    assert CLUSTER.rayVersion == PINS["ray"]
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
def test_every_container_is_offline_and_has_no_other_variable_but_rays_patience(
    pod: PodSpec,
) -> None:
    variables = environment(pod)
    patience = int(variables.pop("RAY_JOB_STOP_WAIT_TIME_S"))
    assert variables == OFFLINE_ENVIRONMENT
    assert 3 < patience < pod.terminationGracePeriodSeconds
    assert pod.containers[0].imagePullPolicy == "IfNotPresent"


@PODS
def test_models_cannot_be_written_and_runs_can(pod: PodSpec) -> None:
    volumes = {volume.name: volume for volume in pod.volumes}
    for path, is_fixed in (("/models", True), ("/runs", False)):
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


def instructions() -> list[tuple[str, str]]:
    lines = [line for line in DOCKERFILE.read_text().splitlines() if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    pairs = [line.partition(" ") for line in joined.splitlines() if line.strip()]
    return [(name, rest.strip()) for name, _, rest in pairs]


def arguments_of(name: str) -> list[str]:
    return [rest for found, rest in instructions() if found == name]


def installed() -> list[Requirement]:
    """The requirements of the pip commands; the project itself has its own name."""
    words = [
        word for run in arguments_of("RUN") if "pip install" in run for word in shlex.split(run)
    ]
    asked = [
        word.replace(".[", f"{PROJECT['name']}[", 1) for word in words if re.search(r"==|\[", word)
    ]
    return [Requirement(word) for word in asked if "'" not in word and not word.startswith("^")]


def test_the_image_has_a_python_that_the_project_takes_and_the_pins_are_for() -> None:
    (image,) = arguments_of("FROM")
    found = re.fullmatch(r"python:(\d+\.\d+)[\w.-]*", image)
    assert found and found[1] in SpecifierSet(PROJECT["requires-python"])
    assert f"Python {found[1]}" in (ROOT / "constraints.txt").read_text()


def test_the_image_installs_the_gpu_extra_and_the_versions_that_the_constraints_name() -> None:
    asked = {requirement.name: requirement for requirement in installed()}
    assert asked[PROJECT["name"]].extras == {"gpu"} <= set(PROJECT["optional-dependencies"])
    (gpu,) = map(Requirement, PROJECT["optional-dependencies"]["gpu"])
    assert PINS["vllm"] in gpu.specifier
    assert str(asked["vllm"].specifier) == f"=={PINS['vllm']}"
    assert str(asked["ray"].specifier) == f"=={PINS['ray']}"
    assert set(asked) == {PROJECT["name"], "vllm", "ray"}


def test_every_install_of_the_image_is_held_to_the_constraints_that_both_builds_share() -> None:
    commands = [run for run in arguments_of("RUN") if "pip install" in run]
    assert commands and all("pip install -c constraints.txt " in run for run in commands)
    assert not {"triton", "apache-tvm-ffi"} & set(PINS)  # the GPU build pins others


def is_sent(path: str) -> bool:
    """Whether .dockerignore admits a path of the root to the build; the last pattern decides."""
    sent = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if line and not line.startswith("#"):
            pattern = line.removeprefix("!").removeprefix("**/")
            if fnmatch.fnmatch(path, pattern):
                sent = line.startswith("!")
    return sent


def test_the_build_gets_the_files_that_it_copies_and_nothing_else() -> None:
    copied = [word for rest in arguments_of("COPY") for word in rest.split()[:-1]]
    assert all((ROOT / source).exists() for source in copied)
    assert all(is_sent(source) for source in copied)
    others = {path.name for path in ROOT.iterdir()} - set(copied)
    assert "tests" in others
    assert not [name for name in [*others, ".git", ".venv", "runs", "models"] if is_sent(name)]
    packages = PYPROJECT["tool"]["setuptools"]["packages"]["find"]["include"]
    needed = {name.rstrip("*") for name in packages} | {"pyproject.toml", PROJECT["readme"]}
    assert set(copied) == needed | {*PROJECT["license-files"], "constraints.txt"}


def test_the_image_is_offline_with_a_user_of_its_own_and_a_home() -> None:
    variables = dict(
        word.split("=", 1) for rest in arguments_of("ENV") for word in shlex.split(rest)
    )
    assert OFFLINE_ENVIRONMENT.items() <= variables.items()
    pod = HEAD.template.spec.securityContext
    assert arguments_of("USER") == [f"{pod.runAsUser}:{pod.runAsGroup}"]
    (added,) = [run for run in arguments_of("RUN") if "useradd" in run]
    assert f"--uid {pod.runAsUser}" in added and "--create-home" in added
    assert variables["HOME"] == f"/home/{added.split()[-1]}"
    order = [name for name, _ in instructions()]
    assert max(i for i, name in enumerate(order) if name == "RUN") < order.index("USER")


def test_the_image_has_a_compiler_for_triton_and_libnuma() -> None:
    apt = next(run for run in arguments_of("RUN") if "apt-get install" in run).split()
    assert {"gcc", "libc6-dev", "libnuma1"} <= set(apt)
