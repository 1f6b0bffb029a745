"""The keys of a config file that say how engines are run."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from orca2_gen.config.section import Fraction, Section


class DispatchConfig(Section):
    """Dispatch says in which order engines run and what a run puts up with before it stops; no
    stage key depends on it.
    """

    schedule: Literal["phased", "overlapped"] = "phased"
    """`"phased"` ends the student's engines before the teacher's load. `"overlapped"` starts the
    teacher on tasks that are decided while others are still scored, as far as there is room for
    both. A run whose open answers are judged is phased, since judging comes in between, and so is
    one of policy teacher_best."""

    prefer: Literal["fewest_tokens", "shortest_time"] = "fewest_tokens"
    """The use of engines that a race leaves idle, since each task's next problems are known only
    once those before them are scored. They are asked about problems to come under the strategies
    that are still in, and what a race does not need is dropped; rows are the same either way.
    `"fewest_tokens"` does so only while no more than a tenth of the races' own cells can be
    dropped, and `"shortest_time"` always, which may cost as many tokens as the full grid. Schedule
    `"overlapped"` never does: the teacher takes the place."""

    max_failed_starts: int = Field(3, ge=1)
    """Failed starts in a row after which a replica is given up; the others go on."""
    backoff_seconds: float = Field(1.0, ge=0.0)
    """Seconds before a replica is started again, doubled with every failure in a row, up to a
    minute."""
    start_seconds: float = Field(1800.0, gt=0.0)
    """Seconds in which an engine must be up once it has its GPUs. It waits for GPUs that others
    hold as long as they do, and says so every 30 seconds."""
    require_gpus: bool = False
    """Whether a run is refused on a cluster with GPUs if the vLLM of the driver's Python is the CPU
    build, which leaves them idle."""
    min_replicas: int = Field(1, ge=1)
    """Fewest engines of a model with which a run goes on."""
    stall_seconds: float = Field(300.0, gt=0.0)
    """Seconds without a generated token, while requests are open, after which an engine is
    restarted."""
    request_seconds: float | None = Field(None, gt=0.0)
    """Seconds, a request's wait for a place in the batch included, after which it is cut off and
    counts as truncated. If not set, no limit: with one, rows depend on how fast the machine is."""
    max_rejection_rate: Fraction = 0.95
    """Share of rejected rows above which the run stops: in a stage, and in each task as it is
    read."""
    rejection_rows: int = Field(1000, ge=1)
    """Rows of a stage or task before max_rejection_rate applies; a task that has been read to its
    end is judged whatever its size."""
