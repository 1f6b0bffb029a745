from __future__ import annotations

import dataclasses

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from orca2_gen.estimates.engines import Engines, Speed, kind_of, speed_of, start_of
from orca2_gen.estimates.observed import Observed, measured
from train.flops import PEAKS

ENGINES = Engines(
    stage="scores",
    model="llama",
    num_parameters=7e9,
    weight_bytes=14e9,
    gpu="H100",
    is_on_gpus=True,
    sequences=256,
)
SEEN = Observed(
    source="earlier",
    stage="scores",
    model="llama",
    num_parameters=7e9,
    gpu="NVIDIA H100 80GB HBM3",
    is_on_gpus=True,
    tokens_per_second=9000.0,
    num_open=256.0,
    start_seconds=90.0,
)
sizes = st.floats(1e8, 1e12)


def width(speed: Speed | None) -> float:
    assert speed is not None
    return speed.tokens_per_second.high / speed.tokens_per_second.low


def test_a_speed_that_was_seen_is_told_as_it_was() -> None:
    speed = speed_of(dataclasses.replace(ENGINES, gpu=SEEN.gpu), [SEEN], PEAKS)
    assert speed is not None and speed.source == "llama in earlier"
    assert speed.tokens_per_second.value == pytest.approx(9000.0)
    assert width(speed) < 2.0


@given(sizes, sizes)
def test_a_larger_model_is_expected_to_be_slower(first: float, second: float) -> None:
    assume(first < second)
    small, large = (
        speed_of(dataclasses.replace(ENGINES, model="new", num_parameters=size), [SEEN], PEAKS)
        for size in (first, second)
    )
    assert small is not None and large is not None
    assert small.tokens_per_second.value > large.tokens_per_second.value


@given(sizes)
def test_an_estimate_is_wider_the_further_it_is_carried(size: float) -> None:
    same = speed_of(dataclasses.replace(ENGINES, gpu=SEEN.gpu), [SEEN], PEAKS)
    other = speed_of(dataclasses.replace(ENGINES, model="new", num_parameters=size), [SEEN], PEAKS)
    assert width(other) > width(same)


@given(st.floats(1.0, 255.0))
def test_a_batch_that_was_not_full_promises_more_and_never_less(num_open: float) -> None:
    seen = dataclasses.replace(SEEN, num_open=num_open)
    engines = dataclasses.replace(ENGINES, gpu=SEEN.gpu)
    preview, full = speed_of(engines, [seen], PEAKS), speed_of(engines, [SEEN], PEAKS)
    assert preview is not None and full is not None
    assert preview.tokens_per_second.value >= full.tokens_per_second.value
    assert preview.tokens_per_second.high >= full.tokens_per_second.high
    assert width(preview) >= width(full)


def test_a_gpu_that_nobody_has_used_is_calculated_and_said_to_be() -> None:
    speed = speed_of(ENGINES, measured(), PEAKS)
    assert speed is not None and "by calculation" in speed.source
    assert width(speed) > 10.0


@pytest.mark.parametrize(
    "change",
    [
        {"gpu": "", "is_on_gpus": True},
        {"gpu": "Nobody's X1"},
        {"num_parameters": None, "gpu": "", "is_on_gpus": False},
    ],
    ids=["unknown GPU", "GPU without a peak", "script"],
)
def test_what_nothing_is_known_of_has_no_speed(change: dict[str, object]) -> None:
    engines = dataclasses.replace(ENGINES, **change)  # type: ignore[arg-type]
    assert speed_of(engines, measured(), PEAKS) is None


def test_a_cpu_is_told_from_what_cpus_did() -> None:
    engines = dataclasses.replace(
        ENGINES, model="mine", num_parameters=35e6, gpu="", is_on_gpus=False
    )
    speed = speed_of(engines, [SEEN, *measured()], PEAKS)
    assert speed is not None and "measurements" in speed.source
    assert speed.tokens_per_second.low < 335.0 < speed.tokens_per_second.high


def test_a_start_is_as_long_as_those_that_were_seen_or_as_the_weights_take() -> None:
    seen = start_of(ENGINES, [SEEN])
    assert seen.low < 90.0 == seen.value < seen.high
    small = start_of(dataclasses.replace(ENGINES, weight_bytes=1e9), [])
    large = start_of(dataclasses.replace(ENGINES, weight_bytes=140e9), [])
    assert small.value < large.value and large.low < large.value < large.high


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("H100", "NVIDIA H100 80GB HBM3", True),
        ("A100", "NVIDIA A100-SXM4-80GB", True),
        ("A10G", "NVIDIA A10G", True),
        ("V100", "Tesla V100-SXM2-16GB", True),
        ("L4", "NVIDIA L40", False),
        ("L4", "NVIDIA L40S", False),
        ("NVIDIA GeForce RTX 4090", "NVIDIA GeForce RTX 3090", False),
    ],
)
def test_two_names_of_one_gpu_are_one_gpu(one: str, other: str, is_same: bool) -> None:
    assert (kind_of(one) == kind_of(other)) is is_same
    seen = dataclasses.replace(SEEN, gpu=other)
    speed = speed_of(dataclasses.replace(ENGINES, gpu=one), [seen], PEAKS)
    assert speed is not None
    assert (width(speed) < 1.8) is is_same
    if is_same:
        assert speed.tokens_per_second.value == pytest.approx(9000.0)


@pytest.mark.parametrize("gpu", ["NVIDIA L40", "NVIDIA A10G", "NVIDIA H1000"])
def test_a_gpu_has_no_peak_of_another_one(gpu: str) -> None:
    assert speed_of(dataclasses.replace(ENGINES, gpu=gpu), [], PEAKS) is None


def test_a_script_tells_nothing_of_a_model_of_its_name() -> None:
    scripted = dataclasses.replace(SEEN, is_scripted=True)
    assert not ENGINES.is_model_of(scripted)
    assert speed_of(dataclasses.replace(ENGINES, gpu=""), [scripted], PEAKS) is None
    assert start_of(ENGINES, [scripted]) == start_of(ENGINES, [])


def test_two_models_in_directories_of_one_name_are_two() -> None:
    engines = dataclasses.replace(ENGINES, directory="/models/a/student")
    assert engines.is_model_of(dataclasses.replace(SEEN, directory="/models/a/student"))
    assert not engines.is_model_of(dataclasses.replace(SEEN, directory="/models/b/student"))


def test_a_full_run_is_believed_before_a_preview() -> None:
    preview = dataclasses.replace(SEEN, source="preview", num_open=4.0, tokens_per_second=700.0)
    speed = speed_of(dataclasses.replace(ENGINES, gpu=SEEN.gpu), [preview, SEEN], PEAKS)
    assert speed is not None and speed.source == "llama in earlier"
