"""Axolotl's own loader, collator and trainer, on the dataset directory or an export."""

from __future__ import annotations

from typing import Any

from benchmarks.foreign.witness import (
    ROWS_PER_STEP,
    STEPS,
    Request,
    Testimony,
    answer,
    testimony_of,
)


def source_of(request: Request) -> dict[str, Any]:
    """Axolotl's entry of `datasets`."""
    if request["shape"] in ("dataset", "tokens"):
        return {"path": request["opens"]}  # no type: the rows are encoded
    columns: dict[str, dict[str, Any]] = {
        "messages": {"field_messages": "messages"},
        "sharegpt": {
            "field_messages": "conversations",
            "message_property_mappings": {"role": "from", "content": "value"},
            "roles": {"system": ["system"], "user": ["human"], "assistant": ["gpt"]},
        },
    }
    return {
        "path": request["opens"],
        "type": "chat_template",
        "roles_to_train": ["assistant"],
        "train_on_eos": "turn",
        **columns[request["shape"]],
    }


def train(request: Request) -> Testimony:
    """What axolotl is seen to train."""
    from axolotl.cli.config import load_cfg
    from axolotl.common.datasets import load_datasets
    from axolotl.train import setup_model_and_trainer
    from axolotl.utils.dict import DictDefault

    wishes = {
        "base_model": request["model"],
        "datasets": [source_of(request)],
        "chat_template": "tokenizer_default",
        "dataset_prepared_path": f"{request['scratch']}/prepared",
        "output_dir": request["scratch"],
        "sequence_len": 4096,
        "sample_packing": False,
        "dataloader_num_workers": 0,  # the witness sees what this process collates
        "micro_batch_size": ROWS_PER_STEP,
        "gradient_accumulation_steps": 1,
        "max_steps": STEPS,
        "logging_steps": 1,
        "learning_rate": 1e-5,
        "optimizer": "adamw_torch",
        "lr_scheduler": "constant",
        "bf16": False,
        "fp16": False,
        "tf32": False,
        "torch_dtype": "float32",
        "save_strategy": "no",
        "use_wandb": False,
    }
    settings = load_cfg(DictDefault(wishes))
    trainer, *_ = setup_model_and_trainer(settings, load_datasets(cfg=settings))
    return testimony_of(trainer)


if __name__ == "__main__":
    answer(train, "axolotl", "transformers", "datasets")
