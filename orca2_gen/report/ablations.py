"""The ablations that a run is an arm of, if `benchmarks.ablations` left their figures beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from orca2_gen.run_directory.json_files import parsed, read_json
from orca2_gen.run_directory.regular_files import DamagedFile

ABLATIONS = "ablations.json"
"""Name of the file of figures, in the directory that holds the arms' run directories."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Arm:
    """One way to choose strategies, and how well the students trained on its rows did."""

    accuracy: float
    """Held out, macro average over tasks, mean over the seeds."""
    interval: tuple[float, float]
    """95% over problems."""
    seeds: tuple[float, ...]
    """Accuracy of each seed's student."""
    tokens: float
    """Mean tokens of an answer."""
    rows: int
    rows_per_task: Mapping[str, int]
    per_task: Mapping[str, float]
    """Task -> accuracy."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ablations:
    """The arms of one set of ablations."""

    arms: Mapping[str, Arm]
    arms_cut: Mapping[str, Arm]
    """The same with every arm cut to the smallest arm's rows per task; empty if not measured."""
    rows_per_task_cut: Mapping[str, int]

    @property
    def tables(self) -> list[tuple[str, Mapping[str, Arm]]]:
        """Caption and arms of each table."""
        whole = (
            "Held-out accuracy in % of students trained under each arm, with 95% intervals over "
            "problems",
            self.arms,
        )
        cut = ("The same, every arm cut to the smallest arm's rows per task", self.arms_cut)
        return [whole, *([cut] if self.arms_cut else [])]


_ADAPTER = TypeAdapter(Ablations)


def read_ablations(run_dir: Path) -> Ablations | str | None:
    """The ablations of which a run is an arm; None if there are none beside it.

    A line that says what is wrong if the file is damaged, since the run itself is not.
    """
    path, name = run_dir.resolve().parent / ABLATIONS, run_dir.resolve().name
    try:
        value = read_json(path)
        arms = value.get("arms") if isinstance(value, dict) else None
        if not isinstance(arms, dict) or name not in arms:
            return None  # another tool's, or without this run
        return parsed(path, value, _ADAPTER)
    except FileNotFoundError:
        return None
    except DamagedFile as error:
        return str(error)
