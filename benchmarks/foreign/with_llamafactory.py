"""LLaMA-Factory's own loader, collator and trainer, on the dataset directory or an export."""

from __future__ import annotations

from typing import Any

from benchmarks.foreign.witness import Request, Testimony, answer, arguments_of, testimony_of

TEMPLATE = "ends_with_its_turn"


def register_template() -> None:
    """Registers ChatML whose last token is the end of the turn.

    LLaMA-Factory's own `chatml` also trains the line break behind that token, which no model
    generates, since it has ended by then.
    """
    from llamafactory.data.formatter import StringFormatter
    from llamafactory.data.template import register_template as register

    def turn(role: str, rest: str = "") -> Any:
        return StringFormatter(slots=[f"<|im_start|>{role}\n{{{{content}}}}<|im_end|>\n{rest}"])

    register(
        name=TEMPLATE,
        format_system=turn("system"),
        format_user=turn("user", "<|im_start|>assistant\n"),
        format_assistant=StringFormatter(slots=["{{content}}<|im_end|>"]),
    )


def source_of(request: Request) -> dict[str, Any]:
    """LLaMA-Factory's arguments that name the data."""
    if request["shape"] == "dataset":
        # Where the tokens are given, the name of a source is asked for and not read.
        return {"tokenized_path": request["opens"], "dataset": "none", "template": "chatml"}
    register_template()
    return {
        "dataset_dir": request["opens"],
        "dataset": "orca2",  # the name in the export's dataset_info.json
        "template": request.get("template") or TEMPLATE,
        "cutoff_len": 4096,
        "overwrite_cache": True,
    }


def train(request: Request) -> Testimony:
    """What LLaMA-Factory is seen to train; the lines are those of its own `run_sft`."""
    from llamafactory.data import (
        SFTDataCollatorWith4DAttentionMask,
        get_dataset,
        get_template_and_fix_tokenizer,
    )
    from llamafactory.hparams import get_train_args
    from llamafactory.model import load_model, load_tokenizer
    from llamafactory.train.sft.trainer import CustomSeq2SeqTrainer

    wishes = {
        "model_name_or_path": request["model"],
        "stage": "sft",
        "do_train": True,
        "finetuning_type": "full",
        **arguments_of(request),
        **source_of(request),
    }
    model_args, data_args, training_args, finetuning_args, _ = get_train_args(wishes)
    tokenizers = load_tokenizer(model_args)
    template = get_template_and_fix_tokenizer(tokenizers["tokenizer"], data_args)
    rows = get_dataset(template, model_args, data_args, training_args, stage="sft", **tokenizers)
    model = load_model(tokenizers["tokenizer"], model_args, finetuning_args, True)
    collator = SFTDataCollatorWith4DAttentionMask(
        template=template,
        model=model,
        pad_to_multiple_of=8,
        label_pad_token_id=-100,
        compute_dtype=model_args.compute_dtype,
        **tokenizers,
    )
    trainer = CustomSeq2SeqTrainer(
        model=model,
        args=training_args,
        finetuning_args=finetuning_args,
        data_collator=collator,
        **rows,
        **tokenizers,
    )
    return testimony_of(trainer)


if __name__ == "__main__":
    answer(train, "llamafactory", "transformers", "datasets")
