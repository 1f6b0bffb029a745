"""The keys of training in a config file."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from orca2_gen.config.section import Fraction, PathText, Section


class TrainingDataset(Section):
    """A dataset of a stage, and how much of it an epoch takes."""

    path: PathText
    """Directory of the dataset."""
    weight: float = Field(1.0, gt=0.0)
    """Passes over this dataset in one epoch: 0.5 takes every other row, 2 takes each row twice."""


class TrainingStage(Section):
    """One of the stages that follow each other in a training; a key that is not set is taken from
    `training`.
    """

    datasets: list[TrainingDataset] = Field(default_factory=list)
    """Datasets that are mixed. If empty, the one of `training`."""
    num_epochs: int | None = Field(None, ge=1)
    """Passes over the packed rows."""
    num_steps: int | None = Field(None, ge=1)
    """Optimizer steps, in place of num_epochs."""
    learning_rate: float | None = Field(None, gt=0.0)
    """Highest learning rate of the stage, which warms up and decays by itself."""
    warmup_fraction: Fraction | None = None
    """Share of the stage's steps in which the learning rate rises."""
    schedule: Literal["cosine", "linear", "constant"] | None = None
    """How the learning rate falls after the warm-up."""
    optimizer_state: Literal["keep", "reset"] = "keep"
    """Whether the optimizer goes on with its moments of the stage before."""


class TrainingConfig(Section):
    """Training fine-tunes the student: `orca2 train CONFIG`, or `torchrun -m train.sft CONFIG`."""

    model: PathText | None = None
    """Directory of the model to start from. If not set, the student's."""
    dataset: PathText | None = None
    """Directory of the dataset. If not set, `RUN/dataset`."""
    stages: list[TrainingStage] = Field(default_factory=list)
    """Stages that follow each other, each with its own data and learning rate. If empty, there is
    one, of the keys of this section."""
    output: PathText | None = None
    """Directory of the trained student. If not set, `RUN/student`."""
    prompts: Literal["erased", "instruction_kept", "foreign"] = "erased"
    """What the dataset's manifest must say of its prompts."""
    seq_len: int = Field(4096, ge=16)
    """Tokens of a packed row."""
    too_long: Literal["refuse", "drop"] = "refuse"
    """What becomes of an example of more than `seq_len` tokens: training refuses the dataset, or
    drops the example and counts it. None is ever cut."""
    rows_per_step: int = Field(32, ge=1)
    """Packed rows of one optimizer step, over all ranks."""
    num_epochs: int = Field(3, ge=1)
    """Passes over the packed rows."""
    num_steps: int | None = Field(None, ge=1)
    """Optimizer steps, in place of num_epochs."""
    learning_rate: float = Field(2e-5, gt=0.0)
    """Highest learning rate; after the warm-up it falls as `schedule` says."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """How the learning rate falls after the warm-up: to 0 along a cosine or a line, or not."""
    warmup_fraction: Fraction = 0.04
    """Share of the steps in which the learning rate rises."""
    optimizer: Literal["adamw", "muon"] = "adamw"
    """AdamW, or Muon for the matrices of the layers and AdamW for the rest."""
    lora_rank: int | None = Field(None, ge=1)
    """Rank of the matrices that are trained in place of the weights (LoRA): two small ones beside
    each linear layer, which are added to it when training ends. Weights then need no gradients
    and no optimizer state. It takes a learning rate about ten times as high, and the extra `lora`.
    If not set, all weights are trained."""
    lora_alpha: int | None = Field(None, ge=1)
    """What the product of the two is scaled by, times `lora_rank`. If not set, twice the rank."""
    weight_decay: float = Field(0.0, ge=0.0)
    """Weight decay of matrices and embeddings; biases and norms have none."""
    max_grad_norm: float = Field(1.0, gt=0.0)
    """Norm to which larger gradients are scaled down."""
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    """Number format of the forward and backward computation; weights are float32, but for those
    that `lora_rank` leaves as they are: they have this format."""
    moments_dtype: Literal["float32", "bfloat16"] = "float32"
    """Number format of what the optimizer remembers of each weight between two steps (AdamW's two
    moments, Muon's momentum); a step computes in float32. `"bfloat16"` spares 4 of AdamW's 16 bytes
    for each weight, and 2 of Muon's 12."""
    seed: int = Field(0, ge=0)
    """Seed of the packing and of the order of rows."""
    max_rows_per_task: dict[str, Annotated[int, Field(ge=0)]] = Field(default_factory=dict)
    """Most rows that are trained on, the dataset's first, by task; all rows of a task that is not
    named."""
    save_every_steps: int | None = Field(None, ge=1)
    """Steps between checkpoints of the training state. If not set, one every ten minutes. A signal
    to end leaves one as well."""
    async_save: bool = False
    """Whether training goes on while a checkpoint is written. Each process then keeps a copy of its
    share of the weights and the optimizer state in the host's memory, and a checkpoint counts once
    all of them have written it."""
    keep_states: int = Field(1, ge=1)
    """Newest checkpoints that are kept, to go back to an earlier one; older ones are removed."""
    skip_steps: list[Annotated[int, Field(ge=1)]] = Field(default_factory=list)
    """Steps whose batch is read and not trained on, such as one whose loss was not finite."""
    eval_dataset: PathText | None = None
    """Directory of a dataset that is not trained on, whose loss by task is measured."""
    eval_steps: int | None = Field(None, ge=1)
    """Steps between two measurements on `eval_dataset`. If not set, one at the end."""
    tensorboard: bool = False
    """Whether metrics are written for TensorBoard as well, into `RUN/tensorboard`. It needs the
    extra `tensorboard`."""
    rows_per_forward: int | None = Field(1, ge=1)
    """Rows of one forward pass on a rank, as many as fit its memory; more are faster where the
    model is small. No result depends on it."""
    layout: Literal["cheapest", "packed"] = "cheapest"
    """Rows of a forward pass: `"cheapest"` passes the examples of a step in rows of their own, like
    lengths together, where attention between packed examples would take more operations than
    padding; `"packed"` never does. No result depends on it beyond rounding."""
    gradient_checkpointing: Literal["selective"] | bool = False
    """Whether the backward pass computes activations again, which saves memory and costs time.
    `"selective"` keeps what attention gives and the matrix products that are cheap to keep, and
    costs about six tenths as much."""
    sharding: Literal["full", "hybrid"] = "full"
    """Processes that the weights, gradients and moments are spread over: all of them, or those of
    a node, with a copy on each node, which spares the network between nodes and takes more memory.
    """
    gradient_sync: Literal["every_pass", "last_pass"] = "every_pass"
    """Passes of a step after which processes exchange their gradients: each one, or the last alone,
    which spares exchanges, and each process keeps whole gradients until then (4 bytes per
    parameter)."""
