"""Engines without Ray: actors that do what a test tells them, and what `ray.get` gives of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ray.exceptions import ActorDiedError

from orca2_gen.run_directory.units import Receipt
from ray_jobs.dispatch.leases import EngineUnit
from ray_jobs.engines.own_process import EnginePlace
from ray_jobs.engines.versions import Versions

VERSIONS: Versions = (("vllm", "1"),)


@dataclass(eq=False, slots=True)
class Answer:
    """A pending answer of an actor."""

    value: Any = None
    error: Exception | None = None
    is_ready: bool = False


def get(answer: Answer) -> Any:
    """Stands in for `ray.get`."""
    assert answer.is_ready
    if answer.error is not None:
        raise answer.error
    return answer.value


@dataclass(eq=False, slots=True)
class Lease:
    """An open lease: a generator of receipts, as Ray gives one for a streaming method."""

    units: list[EngineUnit]
    """Units without an answer."""
    answers: deque[Receipt] = field(default_factory=deque)
    is_lost: bool = False

    @property
    def is_ready(self) -> bool:
        return bool(self.answers) or self.is_lost or not self.units

    def next_ready(self) -> bool:
        return self.is_ready

    def __next__(self) -> Answer:
        assert self.is_ready
        if self.answers:
            together = tuple(self.answers)
            self.answers.clear()
            return Answer(value=together, is_ready=True)
        if self.is_lost:
            return Answer(error=ActorDiedError(), is_ready=True)
        raise StopIteration


@dataclass(eq=False, slots=True)
class StandIn:
    """A PlacedEngine and its actor in one."""

    place: EnginePlace = field(default_factory=lambda: EnginePlace(node="n", node_id="n"))
    placing: Answer = field(default_factory=Answer)
    loading: Answer = field(default_factory=Answer)
    leases: list[Lease] = field(default_factory=list)
    is_ended: bool = False
    cores: tuple[int, ...] = ()
    group: Any = None

    @property
    def actor(self) -> Any:
        return _Methods(self)

    def get_placed(self) -> None:
        self.placing.value, self.placing.is_ready = self.place, True

    def come_up(self) -> None:
        self.loading.value, self.loading.is_ready = VERSIONS, True

    def fail(self) -> None:
        """Ends, as Ray tells it to whoever waits for this engine."""
        for answer in (self.placing, self.loading):
            if not answer.is_ready:
                answer.error, answer.is_ready = ActorDiedError(), True
        for lease in self.leases:
            lease.is_lost = True

    def why(self, error: Exception) -> str:
        return type(error).__name__

    def end(self) -> None:
        assert not self.is_ended, "it is ended twice"
        self.is_ended = True


@dataclass(frozen=True, slots=True)
class _Method:
    call: Callable[..., Any]

    def options(self, **options: Any) -> _Method:
        return self

    def remote(self, *arguments: Any) -> Any:
        return self.call(*arguments)


@dataclass(frozen=True, slots=True)
class _Methods:
    engine: StandIn

    @property
    def placed(self) -> _Method:
        return _Method(lambda: self.engine.placing)

    @property
    def ready(self) -> _Method:
        return _Method(lambda: self.engine.loading)

    @property
    def close(self) -> _Method:
        return _Method(lambda: Answer(is_ready=True))

    @property
    def work(self) -> _Method:
        return _Method(self._open)

    def _open(self, *units: EngineUnit) -> Lease:
        assert not self.engine.is_ended
        lease = Lease(units=list(units))
        self.engine.leases.append(lease)
        return lease
