"""Ray played by this process: tasks and actors run where they are called, one after another."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from ray_jobs.engines.logs import EngineLog

Call = Callable[..., Any]
"""(function, *arguments) -> what the function returns; called for all that a worker would do."""


@contextlib.contextmanager
def ray_in_process(call: Call) -> Iterator[None]:
    """A driver's tasks and actors are `call`s of this process while the context lasts."""
    with (
        patch.object(EngineLog, "begin"),  # it would take this process's own output
        patch.multiple(
            "ray",
            remote=lambda **options: lambda target: Remote(call, target),
            get=value_of,
            put=lambda value: value,
            wait=lambda refs, **options: (refs, []),
            kill=lambda actor: None,
            nodes=list,
            cluster_resources=dict,
            is_initialized=lambda: True,
            get_runtime_context=lambda: SimpleNamespace(get_node_id=str),
            get_gpu_ids=list,
        ),
    ):
        yield


def value_of(ref: Any) -> Any:
    """The value of a Ref, or those of a list of them."""
    if isinstance(ref, list):
        return [value_of(each) for each in ref]
    return ref.value if isinstance(ref, Ref) else ref


class Ref:
    """A value; as an iterator, the values that a generator made."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __next__(self) -> Any:
        if not self.value:
            raise StopIteration
        return self.value.pop(0)

    def next_ready(self) -> bool:
        return True


@dataclass(frozen=True)
class Remote:
    """A function, a class, or a method of an actor."""

    call: Call
    target: Callable[..., Any]

    def options(self, **options: Any) -> Remote:
        return self

    def remote(self, *arguments: Any, **keywords: Any) -> Any:
        made = self.call(finished, self.target, *arguments, **keywords)
        return Actor(self.call, made) if isinstance(self.target, type) else Ref(made)


@dataclass(frozen=True)
class Actor:
    """An actor's handle: its methods are Remotes."""

    call: Call
    instance: Any

    def __getattr__(self, name: str) -> Remote:
        return Remote(self.call, getattr(self.instance, name))


def finished(target: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
    """What the target returns; of a generator, a list of all it yields."""
    made = target(*arguments, **keywords)
    if inspect.iscoroutine(made):
        return asyncio.run(made)
    if inspect.isasyncgen(made):
        return asyncio.run(_listed(made))
    return list(made) if inspect.isgenerator(made) else made


async def _listed(made: Any) -> list[Any]:
    return [value async for value in made]
