"""How fast the engines of a model will be, and how soon they start."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from orca2_gen.estimates.observed import MEASURED, Observed
from orca2_gen.foresight.expected import Expected, product, within

SAME = 1.3
"""Factor up to which two runs of one model on one kind of device are equally fast: their prompts
and answers differ in length."""
SIZE_DOUBT = 0.3
"""Log of the factor for a model of another architecture and the same size."""
DISTANCE_DOUBT = 0.4
"""The same for each factor of e between two sizes or two devices' peaks, from which the speed is
carried over."""
OTHER_HOST = 0.7
"""The same where the device is of a kind whose peak is not known, as a CPU's."""
SHARE_OF_PEAK = within(0.06, 4.0)
"""Share of a GPU's operations that generating in full batches reaches, as calculated from public
throughputs of vLLM (7B on one A100, 70B on eight H100: 5 to 15 %); not measured here."""
START = within(60.0, 3.0)
"""Seconds of vLLM's start beside reading the weights."""
READ_BYTES = within(1e9, 3.0)
"""Bytes of weights that a start reads in a second."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Engines:
    """The engines of one model, as planned."""

    stage: str
    model: str
    """Name of its directory."""
    num_parameters: float | None
    """Those that a token is multiplied with; None if unknown, or if a script answers."""
    weight_bytes: float = 0.0
    gpu: str = ""
    """Model of the GPUs; empty on a CPU, and where it is unknown."""
    is_on_gpus: bool = False
    ranks: int = 1
    replicas: int = 1
    sequences: int = 1
    """Sequences that one engine works on at once."""
    directory: str = ""
    """The model's; empty if unknown."""
    is_scripted: bool = False

    def is_model_of(self, other: Observed) -> bool:
        """Whether an earlier run's engines had this model: one of a script is none of vLLM's."""
        if other.source == MEASURED or other.is_scripted != self.is_scripted:
            return False
        if self.directory and other.directory:
            return self.directory == other.directory
        return self.model == other.model


@dataclass(frozen=True, kw_only=True, slots=True)
class Speed:
    """Tokens that one engine generates in a second."""

    tokens_per_second: Expected
    source: str
    """What it is known from, for people."""


def speed_of(
    engines: Engines, observed: Sequence[Observed], peaks: Mapping[str, float]
) -> Speed | None:
    """The speed of an engine; None if nothing that is known says anything about it.

    Args:
        engines: the planned engines.
        observed: what earlier runs showed.
        peaks: name of a GPU, or the beginning of it -> its operations per second.
    """
    near = [each for each in observed if _is_comparable(engines, each)]
    if near:
        best = min(near, key=lambda each: _doubt(engines, each, peaks))
        carried = _carried(engines, best, peaks)
        alike = within(1.0, SAME * math.exp(_doubt(engines, best, peaks)))
        return Speed(
            tokens_per_second=product(
                within(best.tokens_per_second * carried, 1.0), alike, _fuller(engines, best)
            ),
            source=f"{best.model} in {best.source}",
        )
    peak = _peak(engines.gpu, peaks)
    if engines.num_parameters and peak is not None:
        most = peak * engines.ranks / (2.0 * engines.num_parameters)
        return Speed(
            tokens_per_second=SHARE_OF_PEAK.times(most),
            source=f"the peak of {engines.gpu}, by calculation",
        )
    return None


def start_of(engines: Engines, observed: Sequence[Observed]) -> Expected:
    """The seconds of a start."""
    starts = [
        each.start_seconds
        for each in observed
        if engines.is_model_of(each)
        and each.start_seconds is not None
        and each.is_on_gpus == engines.is_on_gpus
    ]
    if starts:
        return within(sum(starts) / len(starts), 1.5)
    if engines.num_parameters is None:
        return within(5.0, 3.0)
    read = within(engines.weight_bytes / READ_BYTES.value, READ_BYTES.high / READ_BYTES.value)
    return Expected(
        value=START.value + read.value, low=START.low + read.low, high=START.high + read.high
    )


def _is_comparable(engines: Engines, other: Observed) -> bool:
    if not other.tokens_per_second or other.is_on_gpus != engines.is_on_gpus:
        return False
    if engines.is_scripted or other.is_scripted or engines.is_model_of(other):
        return engines.is_model_of(other)
    return bool(engines.num_parameters and other.num_parameters)


def _carried(engines: Engines, other: Observed, peaks: Mapping[str, float]) -> float:
    """The factor from another model and device to these, by their operations."""
    factor = engines.ranks / other.ranks
    if engines.num_parameters and other.num_parameters and not engines.is_model_of(other):
        factor *= other.num_parameters / engines.num_parameters
    if kind_of(engines.gpu) == kind_of(other.gpu):
        return factor
    ours, theirs = _peak(engines.gpu, peaks), _peak(other.gpu, peaks)
    return factor * (ours / theirs if ours and theirs else 1.0)


def _doubt(engines: Engines, other: Observed, peaks: Mapping[str, float]) -> float:
    """The log of the factor by which a speed that is carried over may be wrong, beside SAME."""
    doubt = 0.0 if other.stage == engines.stage else 0.1
    if not engines.is_model_of(other):
        assert engines.num_parameters and other.num_parameters
        size = abs(math.log(engines.num_parameters / other.num_parameters))
        doubt += SIZE_DOUBT + DISTANCE_DOUBT * size
    if other.source == MEASURED:
        doubt += OTHER_HOST
    if kind_of(other.gpu) != kind_of(engines.gpu):
        ours, theirs = _peak(engines.gpu, peaks), _peak(other.gpu, peaks)
        doubt += DISTANCE_DOUBT * abs(math.log(ours / theirs)) if ours and theirs else OTHER_HOST
    doubt += DISTANCE_DOUBT * max(0.0, math.log(_fuller(engines, other).high))
    return doubt + DISTANCE_DOUBT * abs(math.log(engines.ranks / other.ranks))


def _fuller(engines: Engines, other: Observed) -> Expected:
    """How much faster a batch is that is fuller than the other's was, as a preview's is not."""
    ratio = engines.sequences / other.num_open if other.num_open else 1.0
    if ratio <= 1.0:
        return within(1.0, 1.0)
    # In proportion at best, as long as weights are what is read; not at all once it is full.
    return Expected(value=ratio**0.5, low=1.0, high=ratio)


def kind_of(gpu: str) -> str:
    """The kind of a GPU, by which two names of it are equal: vLLM says "NVIDIA H100 80GB HBM3", Ray
    "H100".
    """
    name = gpu.upper().removeprefix("NVIDIA ").removeprefix("TESLA ")
    # The kind of "GeForce RTX 4090" is all of it.
    return name if name.startswith(("GEFORCE", "RTX", "QUADRO")) else re.split("[ -]", name)[0]


def _peak(gpu: str, peaks: Mapping[str, float]) -> float | None:
    """The operations per second of a GPU, by its full name if that is known, else by its kind."""
    words = re.split("[ -]", gpu)
    named = [each for each in peaks if words[: len(each.split())] == each.split()]
    alike = named or [each for each in peaks if kind_of(each) == kind_of(gpu)]
    if not gpu or not alike:
        return None
    return peaks[max(alike, key=len) if named else min(alike, key=len)]
