"""The keys of training in a config file."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from orca2_gen.config.section import Fraction, PathText, Section


class TrainingConfig(Section):
    """Training fine-tunes the student: `orca2 train CONFIG`, or `torchrun -m train.sft CONFIG`."""

    model: PathText | None = None
    """Directory of the model to start from. If not set, the student's."""
    output: PathText | None = None
    """Directory of the trained student. If not set, `RUN/student`."""
    prompts: Literal["erased", "instruction_kept", "foreign"] = "erased"
    """What the dataset's manifest must say of its prompts."""
    seq_len: int = Field(4096, ge=16)
    """Tokens of a packed row."""
    rows_per_step: int = Field(32, ge=1)
    """Packed rows of one optimizer step, over all ranks."""
    num_epochs: int = Field(3, ge=1)
    """Passes over the packed rows."""
    num_steps: int | None = Field(None, ge=1)
    """Optimizer steps, in place of num_epochs."""
    learning_rate: float = Field(2e-5, gt=0.0)
    """Highest learning rate; after the warm-up it falls to 0 along a cosine."""
    warmup_fraction: Fraction = 0.04
    """Share of the steps in which the learning rate rises."""
    optimizer: Literal["adamw", "muon"] = "adamw"
    """AdamW, or Muon for the matrices of the layers and AdamW for the rest."""
    weight_decay: float = Field(0.0, ge=0.0)
    """Weight decay of matrices and embeddings; biases and norms have none."""
    max_grad_norm: float = Field(1.0, gt=0.0)
    """Norm to which larger gradients are scaled down."""
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    """Number format of the forward and backward computation; weights and optimizer state are
    float32."""
    seed: int = Field(0, ge=0)
    """Seed of the packing and of the order of rows."""
    max_rows_per_task: dict[str, Annotated[int, Field(ge=0)]] = Field(default_factory=dict)
    """Most rows that are trained on, the dataset's first, by task; all rows of a task that is not
    named."""
    save_every_steps: int | None = Field(None, ge=1)
    """Steps between checkpoints of the training state. If not set, one at the end."""
    rows_per_forward: int | None = Field(None, ge=1)
    """Rows of one forward pass on a rank, as many as fit its memory. If not set, all rows of its
    step."""
    gradient_checkpointing: bool = False
    """Whether the backward pass computes activations again, which saves memory and costs time."""
