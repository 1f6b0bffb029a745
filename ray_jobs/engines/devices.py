"""The GPUs for the engines of one model: waited for while others hold them, left out if broken."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ray_jobs.engines.placement import PlacedEngine
from ray_jobs.engines.replica import Replica
from ray_jobs.engines.room import Room

FIRST_TELL_SECONDS = 5.0
"""Seconds of waiting that need no line: GPUs of a stage before are freed within them."""
TELL_SECONDS = 30.0
"""Seconds between two lines about engines that wait."""


class Devices:
    """The GPUs that the engines of a model may get."""

    def __init__(
        self,
        say: Callable[[str], None],
        look: Callable[[], Room] = Room,
        failed: set[tuple[str, str]] | None = None,
    ) -> None:
        """Holds nothing yet.

        Args:
            say: function that takes a line for people.
            look: function that gives the Room for one more engine as it is now.
            failed: GPUs (node, id) on which an engine of the run failed to start; others are added.
        """
        self.room = look
        self.failed = set() if failed is None else failed
        self._say, self._tell_due = say, 0.0
        # Actors without an engine: Ray cannot leave out one GPU, but gives none away twice.
        self._holders: list[PlacedEngine] = []

    def tell(self, waiting: Sequence[Replica], room: Room, now: float) -> None:
        """Says, every TELL_SECONDS, who waits for which GPUs and what is free."""
        since = min((replica.asked for replica in waiting), default=now)
        if now - since < FIRST_TELL_SECONDS or now < self._tell_due:
            return
        self._tell_due = now + TELL_SECONDS
        names = ", ".join(str(replica.index) for replica in waiting[:8])
        more = f" and {len(waiting) - 8} more" if len(waiting) > 8 else ""
        who = f"engines {names}{more} wait" if len(waiting) > 1 else f"engine {names} waits"
        gpus = f"{room.ranks} GPU{'s' * (room.ranks > 1)}{' each' * (len(waiting) > 1)}"
        out = f"; left out since they failed: {len(self._holders)}" if self._holders else ""
        self._say(f"{who} for {gpus}; {room}{out}")

    def keeps_out(self, replica: Replica) -> bool:
        """Whether the actor of a replica is on a GPU that failed, and now keeps it from others.

        It is not if no other GPU is free: one that failed once is better than none.
        """
        assert replica.engine is not None and replica.place is not None
        if not (replica.devices & self.failed and self.room().is_enough):
            return False
        self._holders.append(replica.engine)
        gpus = ", ".join(replica.place.devices)
        self._say(
            f"engine {replica.index} leaves out GPU {gpus} of {replica.place.node}, where an "
            "engine failed to start"
        )
        replica.engine = replica.starting = None
        replica.is_placed = False
        return True

    def end(self) -> None:
        """Gives back the GPUs that were left out."""
        for holder in self._holders:
            holder.end()
        self._holders.clear()
