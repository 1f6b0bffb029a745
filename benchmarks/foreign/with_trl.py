"""TRL's SFTTrainer on the dataset directory as it is, or on an export."""

from __future__ import annotations

from benchmarks.foreign.witness import (
    Request,
    Testimony,
    answer,
    arguments_of,
    model_of,
    testimony_of,
    tokenizer_of,
)


def train(request: Request) -> Testimony:
    """What SFTTrainer is seen to train."""
    import datasets
    from trl import SFTConfig, SFTTrainer

    if request["shape"] == "dataset":
        rows = datasets.load_from_disk(request["opens"])
    else:
        rows = datasets.load_dataset(request["opens"], split="train")
    # The other shapes say by themselves which tokens have a loss.
    masks = {"assistant_only_loss": True} if request["shape"] == "messages" else {}
    settings = SFTConfig(**arguments_of(request), max_length=None, **masks)
    trainer = SFTTrainer(
        model=model_of(request),
        args=settings,
        train_dataset=rows,
        processing_class=tokenizer_of(request),
    )
    return testimony_of(trainer)


if __name__ == "__main__":
    answer(train, "trl", "transformers", "datasets")
