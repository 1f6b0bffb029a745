"""The Dockerfile, which nobody here can build, against the package, its pins and rayjob.yaml."""

from __future__ import annotations

import fnmatch
import re
import shlex
import tomllib

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from orca2_gen.offline import OFFLINE_ENVIRONMENT
from tests.pins import ROOT, pins
from tests.ray_jobs.kuberay import rayjob

DOCKERFILE = ROOT / "ray_jobs" / "Dockerfile"
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
PINS = pins("constraints.txt")
PIP = "pip install -c constraints.txt -c constraints-gpu.txt "


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


def test_every_install_of_the_image_is_held_to_the_pins_of_the_gpu_build() -> None:
    commands = [run for run in arguments_of("RUN") if "pip install" in run]
    assert len(commands) == 2 and all(" ".join(run.split()).startswith(PIP) for run in commands)


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
    assert set(copied) == needed | set(PROJECT["license-files"]) | set(re.findall(r"-c (\S+)", PIP))


def test_the_image_is_offline_with_a_user_of_its_own_and_a_home() -> None:
    variables = dict(
        word.split("=", 1) for rest in arguments_of("ENV") for word in shlex.split(rest)
    )
    assert OFFLINE_ENVIRONMENT.items() <= variables.items()
    job = rayjob((ROOT / "ray_jobs" / "rayjob.yaml").read_text())
    pod = job.spec.rayClusterSpec.headGroupSpec.template.spec.securityContext
    assert arguments_of("USER") == [f"{pod.runAsUser}:{pod.runAsGroup}"]
    (added,) = [run for run in arguments_of("RUN") if "useradd" in run]
    assert f"--uid {pod.runAsUser}" in added and "--create-home" in added
    assert variables["HOME"] == f"/home/{added.split()[-1]}"
    order = [name for name, _ in instructions()]
    assert max(i for i, name in enumerate(order) if name == "RUN") < order.index("USER")


def test_the_image_has_a_compiler_for_triton_and_libnuma() -> None:
    apt = next(run for run in arguments_of("RUN") if "apt-get install" in run).split()
    assert {"gcc", "libc6-dev", "libnuma1"} <= set(apt)
