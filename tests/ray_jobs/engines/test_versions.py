from __future__ import annotations

import pytest

from ray_jobs.engines.versions import GPU, Versions, check_versions, installed_versions

FIRST: Versions = (("python", "3.11"), ("torch", "2.13.0"), ("cuda", "13.0"), (GPU, "H100"))


def changed(**values: str) -> Versions:
    return tuple((dict(FIRST) | values).items())


def test_equal_versions_need_no_line_in_whichever_order() -> None:
    assert check_versions(FIRST, FIRST[::-1], "engine 1") == ""


@pytest.mark.parametrize("name", ["python", "torch", "cuda", "vllm"])
def test_engines_of_other_packages_or_another_cuda_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"engine 1 on b runs other .* {name} .* install the same"):
        check_versions(FIRST, changed(**{name: "9", GPU: "A100"}), "engine 1 on b")


def test_another_model_of_gpu_is_told_and_used() -> None:
    told = check_versions(FIRST, changed(**{GPU: "A100"}), "engine 1 on b")
    assert told.startswith("engine 1 on b has A100, the first H100: ")


def test_what_is_installed_names_the_engine_and_what_it_stands_on() -> None:
    assert {"python", "torch", "transformers", "tokenizers"} <= dict(installed_versions()).keys()
