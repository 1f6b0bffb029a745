"""What earlier runs showed of models: those that lie beside the planned one, and previews of it.

Their engines' figures are the calibration: every run that is made refines the next estimate, and no
other file has to be kept. What measured.toml says serves where there is none.
"""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orca2_gen.estimates.models import active_parameters
from orca2_gen.preview.config import SUFFIX
from orca2_gen.run_directory.claim import is_run
from orca2_gen.run_directory.engine_figures import Answers, EngineFigures, read_figures
from orca2_gen.run_directory.json_files import read_json
from orca2_gen.run_directory.ledger import Ledger, read_ledger

MOST_RUNS = 32
"""Runs that are looked at, the youngest of all."""
MOST_LEDGER_BYTES = 64 << 20
STAGES = ("scores", "judgements", "rationales")
MEASURED = "this package's measurements"


@dataclass(frozen=True, kw_only=True, slots=True)
class Observed:
    """One model in one stage of an earlier run."""

    source: str
    """Name of the run's directory."""
    is_own: bool = False
    """Whether it is the planned run itself, or a preview of it."""
    stage: str = ""
    model: str
    """Name of the model's directory."""
    num_parameters: float | None = None
    """Parameters that a token is multiplied with, where the model can still be read."""
    gpu: str = ""
    """Model of its GPUs; empty on a CPU."""
    ranks: int = 1
    """Devices of one engine."""
    tokens_per_second: float = 0.0
    """Tokens that one engine generates in a second with a request open."""
    num_open: float = 0.0
    """Mean number of requests open then; 0 if unknown."""
    start_seconds: float | None = None
    """Mean seconds of a start."""
    answers: Mapping[str, Answers] = field(default_factory=dict)
    """Strategy -> its requests together."""
    rows: Mapping[str, int] = field(default_factory=dict)
    """Strategy -> rows that they answered."""
    row_bytes: float = 0.0
    """Bytes of the stage's files for a row; 0 if unknown."""
    num_taught: int = 0
    """Problems that were taught, if it is the stage of rationales."""
    num_examples: int = 0
    """Examples made from them."""


def observed_beside(run_dir: Path) -> list[Observed]:
    """What the runs beside a run directory showed, and the run itself if it has begun.

    What cannot be read is left out.
    """
    places: list[tuple[float, Path]] = []
    with suppress(OSError):
        for path in run_dir.parent.iterdir():
            with suppress(OSError):
                if path.is_dir() and is_run(path):
                    places.append((path.stat().st_mtime, path))
    youngest = [path for _, path in sorted(places, reverse=True)]
    youngest.sort(key=lambda path: not _is_own(path, run_dir))
    found = [each for path in youngest[:MOST_RUNS] for each in _observed(path, run_dir)]
    return [*found, *measured()]


def measured() -> list[Observed]:
    """The measurements of measured.toml."""
    body = Path(__file__).with_name("measured.toml").read_text(encoding="utf-8")
    return [Observed(source=MEASURED, **row) for row in tomllib.loads(body)["measured"]]


def _is_own(path: Path, run_dir: Path) -> bool:
    return path.name == run_dir.name or path.name.startswith(f"{run_dir.name}{SUFFIX}")


def _observed(path: Path, run_dir: Path) -> Iterator[Observed]:
    figures = [each for each in read_figures(path).values() if each.answers]
    if not figures:
        return
    ledger, config = _ledger(path), _config(path)
    for stage in STAGES:
        engines = [each for each in figures if each.stage == stage]
        # Two versions of a config may have had two models in one stage.
        for model in dict.fromkeys(each.model for each in engines):
            own = [each for each in engines if each.model == model]
            yield _of_stage(path, run_dir, ledger, config, own)


def _of_stage(
    path: Path,
    run_dir: Path,
    ledger: Ledger | None,
    config: Mapping[str, Any],
    engines: list[EngineFigures],
) -> Observed:
    stage, model = engines[0].stage, engines[0].model
    answers, rows = _added(engines)
    busy = sum(each.busy_seconds for each in engines)
    starts = [each.start_seconds for each in engines if each.start_seconds is not None]
    receipts = ledger.committed(stage) if ledger else []
    is_taught = stage == "rationales" and ledger is not None
    made = ledger.committed("examples") if is_taught and ledger else []
    return Observed(
        source=path.name,
        is_own=_is_own(path, run_dir),
        stage=stage,
        model=model,
        num_parameters=_parameters(config, stage, model),
        gpu=engines[0].gpu,
        ranks=max(1, engines[0].num_gpus),
        tokens_per_second=sum(each.generated_tokens for each in engines) / busy if busy else 0.0,
        num_open=sum(each.seconds for each in answers.values()) / busy if busy else 0.0,
        start_seconds=sum(starts) / len(starts) if starts else None,
        answers=answers,
        rows=rows,
        row_bytes=sum(entry.bytes for receipt in receipts for entry in receipt.files)
        / max(1, rows.total()),
        num_taught=sum(receipt.taken_in for receipt in receipts) if made else 0,
        num_examples=sum(receipt.counts["accepted"] for receipt in made),
    )


def _added(engines: list[EngineFigures]) -> tuple[dict[str, Answers], Counter[str]]:
    rows: Counter[str] = Counter()
    sums: dict[str, Counter[str]] = {}
    for each in engines:
        rows.update(each.rows)
        for name, answers in each.answers.items():
            own = sums.setdefault(name, Counter())
            for key in Answers.__slots__:
                own[key] += getattr(answers, key)
    return {name: Answers(**own) for name, own in sums.items()}, rows


def _ledger(path: Path) -> Ledger | None:
    with suppress(OSError, ValueError):
        if (path / "ledger.jsonl").stat().st_size <= MOST_LEDGER_BYTES:
            return read_ledger(path)
    return None


def _config(path: Path) -> Mapping[str, Any]:
    with suppress(OSError, ValueError):
        found = read_json(path / "config.json").get("config")
        return found if isinstance(found, dict) else {}
    return {}


def _parameters(config: Mapping[str, Any], stage: str, model: str) -> float | None:
    """The parameters of a stage's model, whose directory the run's config names."""
    for role in ("student", "teacher", "judge"):
        engine = config.get(role)
        directory = engine.get("model") if isinstance(engine, dict) else None
        if isinstance(directory, str) and Path(directory).name == model:
            return active_parameters(Path(directory))
    return None
