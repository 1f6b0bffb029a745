"""What determines a training, and what only carries it out: the config's training section, read.

A training is a row of stages, each with its own data and learning rate; most have one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from orca2_gen.config.training import TrainingConfig, TrainingStage

CHANGEABLE = frozenset(
    ["learning_rate", "warmup_fraction", "schedule", "num_epochs", "num_steps", "max_grad_norm"]
)
"""Keys of a plan and of its stages that `--override` may change between two starts of a training:
none of them changes which rows a step reads."""
_NEWER = {
    **{"schedule": "cosine", "too_long": "refuse", "skip_steps": (), "stages": ()},
    **{"lora_rank": None, "lora_alpha": None, "moments_dtype": "float32"},
}
"""Keys that older plans do not have; at these defaults they are left out of what is recorded."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WeightedDataset:
    """A dataset directory of a stage."""

    path: Path
    weight: float = 1.0
    """Passes over its rows in one epoch."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StagePlan:
    """The settings of one stage."""

    datasets: tuple[WeightedDataset, ...]
    num_epochs: int
    num_steps: int | None = None
    """Overrides num_epochs."""
    learning_rate: float
    warmup_fraction: float
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    optimizer_state: Literal["keep", "reset"] = "keep"


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingPlan:
    """The settings of a training; equal plans on equal data give equal loss curves."""

    seq_len: int
    rows_per_step: int
    """Packed rows of one optimizer step, over all ranks."""
    num_epochs: int
    num_steps: int | None = None
    """Overrides num_epochs."""
    learning_rate: float
    warmup_fraction: float
    optimizer: Literal["adamw", "muon"]
    weight_decay: float
    max_grad_norm: float
    dtype: Literal["bfloat16", "float32"]
    seed: int
    moments_dtype: Literal["float32", "bfloat16"] = "float32"
    """Number format of what the optimizer remembers."""
    max_rows_per_task: Mapping[str, int] = field(default_factory=dict)
    too_long: Literal["refuse", "drop"] = "refuse"
    """What becomes of an example that is longer than a row."""
    lora_rank: int | None = None
    """Rank of the matrices that are trained in place of the weights; None trains the weights."""
    lora_alpha: int | None = None
    """What their product is scaled by, times the rank; given if the rank is."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    skip_steps: tuple[int, ...] = ()
    """Steps whose batch is not trained on."""
    stages: tuple[StagePlan, ...] = ()
    """If there are none, the settings above are those of the only one."""

    def stages_on(self, dataset_dir: Path) -> tuple[StagePlan, ...]:
        """The stages, at least one; a stage without datasets of its own takes `dataset_dir`."""
        only = StagePlan(
            datasets=(),
            num_epochs=self.num_epochs,
            num_steps=self.num_steps,
            learning_rate=self.learning_rate,
            warmup_fraction=self.warmup_fraction,
            schedule=self.schedule,
        )
        usual = (WeightedDataset(path=dataset_dir),)
        return tuple(
            stage if stage.datasets else replace(stage, datasets=usual)
            for stage in self.stages or (only,)
        )

    def recorded(self) -> dict[str, Any]:
        """The plan as states and students record it; datasets have their digests elsewhere."""
        values = asdict(self)
        for key, default in _NEWER.items():
            if values[key] == default:
                del values[key]
        for stage in values.get("stages", ()):
            stage["datasets"] = [each["weight"] for each in stage["datasets"]]
        return values


@dataclass(frozen=True, kw_only=True, slots=True)
class Execution:
    """The settings of carrying out a plan; no result depends on them beyond rounding."""

    rows_per_forward: int | None = None
    """Rows of one forward and backward pass on a rank; None is all rows of its step."""
    layout: Literal["cheapest", "packed"] = "cheapest"
    """Whether examples are passed apart where that is cheaper than packed rows."""
    gradient_checkpointing: Literal["selective"] | bool = False
    sharding: Literal["full", "hybrid"] = "full"
    """Whether all ranks share one copy of the weights, or those of each node."""
    gradient_sync: Literal["every_pass", "last_pass"] = "every_pass"
    """Passes of a step after which ranks exchange gradients."""
    async_save: bool = False
    """Whether training goes on while a state is written."""
    save_every_steps: int | None = None
    """Steps between states to resume from; None saves one every ten minutes."""
    keep_states: int = 1
    """The newest states that stay."""
    eval_dataset: str | None = None
    """Directory of examples that are not trained on, whose loss is measured."""
    eval_steps: int | None = None
    """Steps between two measurements of it; None measures at the end."""
    tensorboard: bool = False
    """Whether metrics are written for TensorBoard as well."""


def training_plan(training: TrainingConfig) -> TrainingPlan:
    """The TrainingPlan of a training section.

    Raises:
        ValueError: its keys of LoRA do not go together with others.
    """
    if training.lora_alpha is not None and training.lora_rank is None:
        raise ValueError(
            f"training.lora_alpha is {training.lora_alpha} and training.lora_rank is not set; set "
            "it too, or leave lora_alpha out"
        )
    if training.lora_rank is not None and training.optimizer == "muon":
        raise ValueError(
            'training.lora_rank is set and training.optimizer is "muon", which makes the two '
            'matrices of a layer orthogonal; set optimizer = "adamw", or leave lora_rank out'
        )
    values = training.model_dump(include={each.name for each in fields(TrainingPlan)})
    values["skip_steps"] = tuple(sorted(set(training.skip_steps)))
    if training.lora_rank is not None and training.lora_alpha is None:
        values["lora_alpha"] = 2 * training.lora_rank
    values["stages"] = tuple(_stage_plan(training, stage) for stage in training.stages)
    return TrainingPlan(**values)


def _stage_plan(training: TrainingConfig, stage: TrainingStage) -> StagePlan:
    """A stage, with what it leaves out taken from the section."""

    def own(key: str) -> Any:
        value = getattr(stage, key)
        return getattr(training, key) if value is None else value

    has_length = stage.num_steps is not None or stage.num_epochs is not None
    return StagePlan(
        datasets=tuple(
            WeightedDataset(path=Path(each.path), weight=each.weight) for each in stage.datasets
        ),
        num_epochs=own("num_epochs"),
        num_steps=stage.num_steps if has_length else training.num_steps,
        learning_rate=own("learning_rate"),
        warmup_fraction=own("warmup_fraction"),
        schedule=own("schedule"),
        optimizer_state=stage.optimizer_state,
    )


def execution_of(training: TrainingConfig) -> Execution:
    """The Execution of a training section."""
    return Execution(**training.model_dump(include={each.name for each in fields(Execution)}))
