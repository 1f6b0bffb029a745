"""A bare transformers Trainer on the dataset directory as it is."""

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
    """What the Trainer is seen to train."""
    import datasets
    from transformers import DataCollatorForSeq2Seq, Trainer, TrainingArguments

    # The collator for language modelling would put labels of its own in place of ours; this one
    # pads those that there are.
    trainer = Trainer(
        model=model_of(request),
        args=TrainingArguments(**arguments_of(request)),
        train_dataset=datasets.load_from_disk(request["opens"]),
        data_collator=DataCollatorForSeq2Seq(tokenizer_of(request)),
    )
    return testimony_of(trainer)


if __name__ == "__main__":
    answer(train, "transformers", "datasets")
