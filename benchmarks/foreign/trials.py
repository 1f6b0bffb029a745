"""One foreign trainer opens one thing of ours, and its testimony is judged by our own trainer."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.foreign.environments import OWN, NotInstalled, python_of
from benchmarks.foreign.ours import OwnTrainer
from benchmarks.foreign.witness import STEPS
from orca2_gen.dataset.export import export
from orca2_gen.dataset.export_files import Format
from orca2_gen.dataset.shapes import Shape
from orca2_gen.offline import OFFLINE_ENVIRONMENT

TOLERANCE = 1e-3
SECONDS = 900
ROOT = Path(__file__).parents[2]

# What a ChatML template must say so that a trainer which asks it for a mask learns the answer and
# the end of its turn. The line break behind that is no part of the answer.
MARKED_CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.role == 'assistant' %}"
    "{% generation %}{{ message.content }}<|im_end|>{% endgeneration %}"
    "{% else %}{{ message.content }}<|im_end|>{% endif %}{{ '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """A trainer and what it opens."""

    name: str
    environment: str
    module: str
    """A file of this folder, which the environment's Python runs."""
    opens: Shape | None = None
    """The shape of an export, or None for the dataset directory as it is."""
    format: Format = "jsonl"
    template: str | None = None
    known: str = ""
    """Why it is known to refuse, or to train more of each row; empty if it must be equal."""
    more_a_row: int = 0
    """Tokens behind the end of each row that it is known to train too."""

    @property
    def opened(self) -> str:
        return f"{self.opens} export ({self.format})" if self.opens else "RUN/dataset"


TRIALS = (
    Trial(name="trl", environment="trl", module="with_trl"),
    Trial(
        name="trl-messages",
        environment="trl",
        module="with_trl",
        opens="messages",
        template=MARKED_CHATML,
    ),
    Trial(
        name="trl-messages-unmarked",
        environment="trl",
        module="with_trl",
        opens="messages",
        known="a template without {% generation %} gives no mask",
    ),
    Trial(
        name="trl-prompt-completion",
        environment="trl",
        module="with_trl",
        opens="prompt_completion",
        more_a_row=1,
        known="it trains the line break that the template writes behind the end of the turn",
    ),
    Trial(
        name="trl-tokens", environment="trl", module="with_trl", opens="tokens", format="parquet"
    ),
    Trial(name="transformers", environment="trl", module="with_transformers"),
    Trial(name="trl-datasets3", environment="legacy", module="with_trl"),
    Trial(name="transformers-datasets3", environment="legacy", module="with_transformers"),
    Trial(
        name="llamafactory",
        environment="llamafactory",
        module="with_llamafactory",
        known="its collator takes no columns of text",
    ),
    Trial(
        name="llamafactory-sharegpt",
        environment="llamafactory",
        module="with_llamafactory",
        opens="sharegpt",
    ),
    Trial(
        name="llamafactory-alpaca",
        environment="llamafactory",
        module="with_llamafactory",
        opens="alpaca",
    ),
    Trial(
        name="llamafactory-sharegpt-chatml",
        environment="llamafactory",
        module="with_llamafactory",
        opens="sharegpt",
        template="chatml",
        more_a_row=1,
        known="its own chatml also trains the line break behind the end of the turn",
    ),
    Trial(
        name="axolotl",
        environment="axolotl",
        module="with_axolotl",
        known="it takes rows for encoded only if they have an attention_mask",
    ),
    Trial(
        name="axolotl-tokens",
        environment="axolotl",
        module="with_axolotl",
        opens="tokens",
        format="parquet",
    ),
    Trial(name="axolotl-messages", environment="axolotl", module="with_axolotl", opens="messages"),
    Trial(name="axolotl-sharegpt", environment="axolotl", module="with_axolotl", opens="sharegpt"),
    Trial(name="torch-dataloader", environment=OWN, module="with_torch"),
    Trial(name="ray-data", environment=OWN, module="with_torch", opens="tokens", format="parquet"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """A line of the table."""

    name: str
    versions: dict[str, str] = field(default_factory=dict)
    opened: str
    rows: int | None = None
    trained_tokens: int | None = None
    first_loss: float | None = None
    our_loss: float | None = None
    verdict: str
    """equal, differs, refused or untried."""
    note: str = ""
    is_fault: bool = False
    """Whether it differs or refuses in a way that is not known."""


def run_trial(trial: Trial, dataset: Path, model: Path, out: Path, own: OwnTrainer) -> Outcome:
    """The outcome of a trial, whose files lie under `out`."""
    place = out / "trials" / trial.name
    # axolotl keeps prepared rows by the name of their source, and so would show those of last time.
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True, exist_ok=True)
    try:
        python = python_of(trial.environment, out)
    except NotInstalled as error:
        return Outcome(
            name=trial.name, opened=trial.opened, verdict="untried", note=f"not installed: {error}"
        )
    opens = dataset if trial.opens is None else _exported(trial, dataset, out)
    request = {
        "opens": str(opens),
        "shape": trial.opens or "dataset",
        "model": str(model),
        "template": trial.template,
        "scratch": str(place / "output"),
    }
    return judged(trial, _asked(python, trial.module, request, place), own)


def _exported(trial: Trial, dataset: Path, out: Path) -> Path:
    assert trial.opens is not None
    folder = out / "exported" / f"{trial.opens}-{trial.format}"
    export(dataset, folder, shape=trial.opens, format=trial.format)
    return folder


def _asked(python: Path, module: str, request: dict[str, Any], place: Path) -> dict[str, Any]:
    """The testimony that a module gives in an environment."""
    question, told = place / "request.json", place / "answer.json"
    question.write_text(json.dumps(request))
    told.unlink(missing_ok=True)
    quiet = {
        "PYTHONPATH": str(ROOT),
        "CUDA_VISIBLE_DEVICES": "",
        "AXOLOTL_DO_NOT_TRACK": "1",
        "HF_HOME": str(place / "cache"),
        "OMP_WAIT_POLICY": "passive",
        **OFFLINE_ENVIRONMENT,
    }
    command = [str(python), "-m", f"benchmarks.foreign.{module}", str(question), str(told)]
    with (place / "log.txt").open("w") as log:
        try:
            ended = subprocess.run(
                command, env=os.environ | quiet, stdout=log, stderr=log, timeout=SECONDS, cwd=place
            )
        except subprocess.TimeoutExpired:
            return {"refused": f"it was not done in {SECONDS} s"}
    if not told.is_file():
        return {"refused": f"it ended with code {ended.returncode} and no answer; see {log.name}"}
    answer: dict[str, Any] = json.loads(told.read_text())
    return answer


def judged(trial: Trial, told: dict[str, Any], own: OwnTrainer) -> Outcome:
    """A testimony beside what our own trainer says of the same rows, in the same order."""
    said = {"name": trial.name, "versions": told.get("versions", {}), "opened": trial.opened}
    if "refused" in told:
        is_known = bool(trial.known) and not trial.more_a_row
        note = f"{trial.known}: {told['refused']}" if is_known else told["refused"]
        return Outcome(**said, verdict="refused", note=note, is_fault=not is_known)
    ends = [len(ids) - trial.more_a_row for ids, _ in told["first_rows"]]
    rows = list(zip(told["first_rows"], ends, strict=True))
    places = own.places([ids[:end] for (ids, _), end in rows])
    is_ours = len(places) == len(rows)
    tails = [ids[end:] for (ids, _), end in rows]
    our_loss = own.mean_loss(places, tails) if is_ours else None
    faults = _faults(told, own, our_loss, trial.more_a_row)
    if not is_ours:
        faults.append(f"{len(rows) - len(places)} of the first {len(rows)} rows have other ids")
    elif [labels[:end] for (_, labels), end in rows] != [own.labels(place) for place in places]:
        faults.append("other labels in the first step")
    known = [f"{trial.known}, {trial.more_a_row:+} token a row"] if trial.more_a_row else []
    return Outcome(
        **said,
        rows=told["rows"],
        trained_tokens=told["trained_tokens"],
        first_loss=told["first_loss"],
        our_loss=our_loss,
        verdict="differs" if faults or known else "equal",
        note="; ".join(known + faults),
        is_fault=bool(faults),
    )


def _faults(
    told: dict[str, Any], own: OwnTrainer, our_loss: float | None, more_a_row: int
) -> list[str]:
    """The figures that are not as they are with us; empty if all are."""
    faults, num_rows = [], len(own.rows)
    if told["rows"] != num_rows:
        faults.append(f"{told['rows']} rows of {num_rows}")
    expected = own.trained_tokens + more_a_row * num_rows
    if (more := told["trained_tokens"] - expected) != 0:
        faults.append(f"{more:+} trained tokens")
    if our_loss is None or not abs(told["first_loss"] - our_loss) <= TOLERANCE:
        faults.append("another first loss")
    if told["steps"] < STEPS:
        faults.append(f"{told['steps']} of {STEPS} steps")
    return faults
