"""What earlier runs showed of models: those that lie beside the planned one, and previews of it.

Their engines' figures are the calibration: every run that is made refines the next estimate, and no
other file has to be kept. What measured.toml says serves where there is none.
"""

from __future__ import annotations

import functools
import itertools
import math
import os
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orca2_gen.estimates.models import active_parameters
from orca2_gen.preview.config import SUFFIX
from orca2_gen.run_directory.claim import MARK
from orca2_gen.run_directory.engine_figures import Answers, EngineFigures, read_figures
from orca2_gen.run_directory.json_files import read_json
from orca2_gen.run_directory.ledger import Ledger, read_ledger

MOST_RUNS = 32
"""Runs that are looked at, the youngest of all."""
MOST_NEIGHBOURS = 2000
"""Names that are looked at for it: a run may lie in a home or on a scratch disk."""
MOST_LEDGER_BYTES = 16 << 20
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
    directory: str = ""
    """The directory; empty if the run does not say."""
    is_scripted: bool = False
    num_parameters: float | None = None
    """Parameters that a token is multiplied with, where the model can still be read."""
    gpu: str = ""
    """Model of its GPUs; empty on a CPU."""
    ranks: int = 1
    """Devices of one engine."""
    is_on_gpus: bool = False
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
    found: list[Observed] = []
    for path in _runs_beside(run_dir):
        with suppress(Exception):  # whatever ails a neighbour, it is none of ours
            found += _observed(path, run_dir)
    return [*found, *measured()]


def _runs_beside(run_dir: Path) -> list[Path]:
    """The youngest runs beside a run directory, itself and its previews first."""
    places: list[tuple[bool, float, Path]] = []
    with suppress(OSError), os.scandir(run_dir.parent) as entries:
        for entry in itertools.islice(entries, MOST_NEIGHBOURS):
            with suppress(OSError):
                if entry.is_dir():
                    path = Path(entry.path)
                    places.append((_is_own(path, run_dir), entry.stat().st_mtime, path))
    runs = (path for *_, path in sorted(places, reverse=True) if (path / MARK).is_file())
    return list(itertools.islice(runs, MOST_RUNS))


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
    num_taught, num_examples = _taught(ledger) if ledger and stage == "rationales" else (0, 0)
    engine = _engine(config, stage, model)
    directory = str(engine.get("model") or engine.get("tokenizer") or "")
    is_scripted = engine.get("engine") == "scripted"
    num_gpus = engines[0].num_gpus
    return Observed(
        source=path.name,
        is_own=_is_own(path, run_dir),
        stage=stage,
        model=model,
        directory=directory,
        is_scripted=is_scripted,
        num_parameters=None if is_scripted or not directory else _parameters(directory),
        gpu=engines[0].gpu if num_gpus else "",
        ranks=max(1, num_gpus or _ranks(engine)),
        is_on_gpus=num_gpus > 0,
        tokens_per_second=sum(each.generated_tokens for each in engines) / busy if busy else 0.0,
        num_open=sum(each.seconds for each in answers.values()) / busy if busy else 0.0,
        start_seconds=sum(starts) / len(starts) if starts else None,
        answers=answers,
        rows=rows,
        row_bytes=sum(entry.bytes for receipt in receipts for entry in receipt.files)
        / max(1, rows.total()),
        num_taught=num_taught,
        num_examples=num_examples,
    )


def _taught(ledger: Ledger) -> tuple[int, int]:
    """The problems that were taught in units whose examples are made, and those examples."""
    made = {each.unit: each.counts["accepted"] for each in ledger.committed("examples")}
    taught = (each for each in ledger.committed("rationales") if each.unit in made)
    return sum(each.taken_in for each in taught), sum(made.values())


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
    """The config that a run recorded; empty if it cannot be read."""
    with suppress(Exception):
        found = read_json(path / "config.json")["config"]
        return found if isinstance(found, dict) else {}
    return {}


def _engine(config: Mapping[str, Any], stage: str, model: str) -> Mapping[str, Any]:
    """The section of the engine that a stage asked; empty if it is not that of this model."""
    selection = config.get("selection")
    policy = selection.get("policy") if isinstance(selection, dict) else None
    scored = "teacher" if policy == "teacher_best" else "student"
    role = {"scores": scored, "judgements": "judge"}.get(stage, "teacher")
    engine = config.get(role)
    if not isinstance(engine, dict):
        return {}
    directory = engine.get("model") or engine.get("tokenizer")
    # The engines of one version of a config may have had another model than those of the next.
    is_it = isinstance(directory, str) and Path(directory).name == model
    return engine if is_it else {}


def _ranks(engine: Mapping[str, Any]) -> int:
    """The devices of one engine, as its section says."""
    sizes = (engine.get(f"{kind}_parallel_size") for kind in ("tensor", "pipeline"))
    return math.prod(size if isinstance(size, int) else 1 for size in sizes)


@functools.lru_cache(maxsize=256)  # runs side by side have mostly the same models
def _parameters(directory: str) -> float | None:
    return active_parameters(Path(directory))
