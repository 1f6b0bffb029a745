"""A run -> what each of its units of examples was made from, and rows compared with it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from orca2_gen.config.engine import VLLMEngineConfig
from orca2_gen.config.schema import Config
from orca2_gen.dataset.origins import (
    COLUMN,
    PROVENANCE,
    StrategyScore,
    TeacherFacts,
    UnitOrigin,
    UnitProvenance,
    margin_of,
    rows_provenance,
    unit_provenance,
)
from orca2_gen.dataset.shards import column_in
from orca2_gen.provenance.about import model_name
from orca2_gen.provenance.accounting import Verification
from orca2_gen.provenance.recorded import Recorded
from orca2_gen.run_directory.arrow_files import DamagedFile, FileEntry, check_file
from orca2_gen.run_directory.ledger import Ledger
from orca2_gen.run_directory.units import origin_of

_SHA256 = re.compile("[0-9a-f]{64}")


def unit_origins(ledger: Ledger) -> tuple[UnitOrigin, ...]:
    """The origin of each committed unit of examples, in their order.

    Raises:
        DamagedFile: a file of rationales is not what the ledger lists.
    """
    found = origins_by_unit(ledger)
    assert all(origin is not None for origin in found.values()), "a driver commits in order"
    return tuple(
        dataclasses.replace(origin, engine=engine_of(ledger.run_dir, origin.rationales))
        for origin in found.values()
        if origin is not None
    )


def origins_by_unit(ledger: Ledger) -> dict[str, UnitOrigin | None]:
    """Unit of examples -> its origin; None if a unit that it was made from is not committed."""
    chosen = {receipt.group: receipt.accepted for receipt in ledger.committed("selections")}
    found: dict[str, UnitOrigin | None] = {}
    for receipt in ledger.committed("examples"):
        problems = ledger.units.get(("problems", receipt.unit))
        rationales = ledger.units.get(("rationales", receipt.unit))
        selection = chosen.get(receipt.group)
        found[receipt.unit] = None
        if problems is not None and rationales is not None and selection is not None:
            found[receipt.unit] = UnitOrigin(
                unit=receipt.unit,
                group=receipt.group,
                problems=problems.accepted,
                rationales=rationales.accepted,
                selection=selection,
            )
    return found


def engine_of(run_dir: Path, entry: FileEntry) -> str:
    """The engine that generated a file's rows, as the file says; empty if it does not.

    Raises:
        DamagedFile: it is not what its list says.
    """
    check_file(run_dir, entry)
    try:
        with pa.memory_map(str(run_dir / entry.path)) as mapped:
            origin = origin_of(pa.ipc.open_file(mapped).schema)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DamagedFile(f"{run_dir / entry.path} is damaged: {error}") from None
    return origin.engine if origin is not None else ""


def teacher_facts(recorded: Recorded, config: Config) -> TeacherFacts:
    """The facts of a run's teacher, by what the run recorded of it.

    A model that was moved since keeps its name, so that no row changes.
    """
    made_of = recorded.stages.get("rationales", {})
    teacher, name = config.teacher, "scripted"
    is_model = isinstance(teacher, VLLMEngineConfig)
    if isinstance(teacher, VLLMEngineConfig):
        about = recorded.about.models.get("teacher") if recorded.about is not None else None
        name = about.name if about is not None else model_name(Path(teacher.model))
    return TeacherFacts(
        name=name,
        digest=str(made_of.get("engine", {}).get("model", "")) if is_model else "",
        temperature=float(made_of.get("temperature", 0.0)),
        top_p=float(made_of.get("top_p", 1.0)),
        run_seed=int(made_of.get("run_seed", 0)),
    )


@dataclass(kw_only=True, slots=True)
class OriginCheck:
    """The provenance of a dataset's rows beside what their run says of them."""

    run_dir: Path
    teacher: TeacherFacts
    origins: Mapping[str, UnitOrigin | None]
    """Unit -> its origin; None if a unit that it was made from is not committed."""
    lacks_column: bool = False
    """Whether a batch had no provenance: an older version wrote none."""
    fault: str = ""
    """The first difference; empty if there is none."""
    _unit: str = ""
    _made_from: UnitProvenance | None = None

    def add(self, batch: pa.RecordBatch) -> None:
        """Looks at a batch, of which the units that its rows name are read one at a time."""
        if COLUMN not in batch.schema.names:
            self.lacks_column = True
            return
        names = [n for n in ("problem_id", "attempt", COLUMN) if n in batch.schema.names]
        units = batch.column(COLUMN).field("rationale_unit")
        for unit in dict.fromkeys(units.to_pylist()):
            if not self.fault:
                self._compare(unit, batch.select(names).filter(pc.equal(units, unit)))

    def tell(self, found: Verification) -> None:
        """Adds what was found of all batches."""
        if self.fault:
            found.findings.append(f"dataset: {self.fault}")
        if self.lacks_column and self._names_engine():
            found.notes.append("dataset: rows lack their provenance, which their run could tell")

    def _names_engine(self) -> bool:
        """Whether the run's rationales were made by a version that writes provenance."""
        first = next((origin for origin in self.origins.values() if origin is not None), None)
        with suppress(ValueError):
            return first is not None and bool(engine_of(self.run_dir, first.rationales))
        return False

    def _compare(self, unit: str, rows: pa.RecordBatch) -> None:
        """Compares the rows that name a unit with its rationales."""
        ids, said = rows.column("problem_id").to_pylist(), rows.column(COLUMN)
        if unit not in self.origins:
            self.fault = (
                f"{ids[0]} says that its rationale_unit is {unit!r}, which is no unit of the run"
            )
            return
        made_from = self._read(unit)
        if made_from is None:
            return
        attempts = column_in(rows, "attempt").to_pylist()
        derived, unknown = rows_provenance(ids, attempts, made_from)
        if unknown:
            self.fault = f"the provenance of {unknown} names {unit}, which holds no such rationale"
        elif not said.equals(derived):
            self.fault = _difference(ids, said, derived)

    def _read(self, unit: str) -> UnitProvenance | None:
        """The provenance of a unit's rationales; None if a file is damaged, which the check of
        every file reports.
        """
        origin = self.origins[unit]
        if unit != self._unit and origin is not None:
            self._unit, self._made_from = unit, None
            with suppress(ValueError):
                self._made_from = unit_provenance(self.run_dir, origin, self.teacher)
        return self._made_from if origin is not None else None


def _difference(ids: Sequence[str], said: pa.StructArray, derived: pa.StructArray) -> str:
    """The first field in which rows say something else of themselves than their run."""
    for name in (each.name for each in PROVENANCE):
        for problem_id, old, new in zip(
            ids, said.field(name).to_pylist(), derived.field(name).to_pylist(), strict=True
        ):
            if old != new:
                return f"{problem_id} says that its {name} is {old!r}, the run says {new!r}"
    return "a row's provenance is not that of the run"


def own_fault(batch: pa.RecordBatch) -> str:
    """The first row whose provenance contradicts itself or the row; empty if none does.

    What the scores and the texts were is not known without the run.
    """
    if COLUMN not in batch.schema.names:
        return ""
    names = ("problem_id", "strategy", "attempt")
    columns = (column_in(batch, name).to_pylist() for name in (*names, COLUMN))
    for problem_id, strategy, attempt, said in zip(*columns, strict=True):
        scores = tuple(StrategyScore(**score) for score in said["scores"])
        greedy = said["attempt"] == 0
        faults = {
            "attempt": attempt not in (0, said["attempt"]),  # older examples have none
            "scores": bool(scores) and strategy not in {score.strategy for score in scores},
            "margin": said["margin"] != margin_of(scores, strategy),
            "instruction_sha256": not _SHA256.fullmatch(said["instruction_sha256"]),
            "temperature": greedy != (said["temperature"] == 0.0),
            "seed": greedy and said["seed"] != 0,
            "source_line": said["source_line"] < 0,
        }
        if found := [name for name, is_wrong in faults.items() if is_wrong]:
            return (
                f"{problem_id} says that its {found[0]} is {said[found[0]]!r}, which does not "
                "follow from the rest of its row"
            )
    return ""
