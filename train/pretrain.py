"""Trains the microworld's student and teacher on a corpus from a seed, with sft's loop.

    export OMP_WAIT_POLICY=passive MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=8589934592
    python -m train.pretrain student OUT/student --threads 2
    python -m train.pretrain teacher OUT/teacher --threads 2 --start-from OUT/student

The teacher continues from the student, on the teacher's corpus, so that common knowledge is learned
once. Without the two malloc variables glibc returns every large tensor to the system, and a third
of the time goes into page faults.

These two commands made the shipped pair (`orca2_gen/microworld/LOG.md`).
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

from orca2_gen.chat import Chat, load_chat
from orca2_gen.microworld.corpus import Corpus, Document, Learner, documents
from orca2_gen.microworld.instructions import microworld_strategies
from orca2_gen.microworld.task_files import draw_task_items, held_out_ids
from orca2_gen.microworld.tokenizer import MAX_POSITIONS, encode_document, train_tokenizer
from orca2_gen.microworld.world import WORLD_SEED, build_world
from train.batches import Batch, Encoded, build_batch, encoded
from train.fit import StepMetrics, fit
from train.loss import LabelledLoss
from train.optimizers import Schedule, build_optimizers
from train.packing import pack

TOKENIZER_CORPUS_SEED = 1
TOKENS_PER_STEP = 4096
"""Slots of a step, padding included."""
SEQ_LEN = 176
"""Tokens per row: as many as the longest documents."""
DOCUMENTS_PER_POOL = 4096
"""Documents that are packed together."""
LOG_EVERY = 50


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """The size of a model and its training."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    learning_rate: float
    num_steps: int


RECIPES: dict[Learner, Recipe] = {
    "student": Recipe(
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=6,
        learning_rate=3e-3,
        num_steps=2600,
    ),
    "teacher": Recipe(
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=6,
        learning_rate=2e-3,
        num_steps=800,
    ),
}


def build_corpus(learner: Learner) -> Corpus:
    """The shipped world's corpus for this learner, without the questions of the task files."""
    world = build_world()
    return Corpus(
        world=world,
        learner=learner,
        strategies=microworld_strategies(),
        held_out=held_out_ids(draw_task_items(world)),
    )


def build_model(recipe: Recipe, chat: Chat) -> LlamaForCausalLM:
    """A Llama of this size with random weights."""
    config = LlamaConfig(
        vocab_size=len(chat.tokenizer),
        hidden_size=recipe.hidden_size,
        intermediate_size=recipe.intermediate_size,
        num_hidden_layers=recipe.num_hidden_layers,
        num_attention_heads=recipe.num_attention_heads,
        num_key_value_heads=recipe.num_attention_heads,
        max_position_embeddings=MAX_POSITIONS,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=chat.tokenizer.eos_token_id,
        pad_token_id=chat.tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)


def corpus_batches(corpus: Corpus, chat: Chat, *, seed: int) -> Iterator[Batch]:
    """Endless batches of documents of all lengths and kinds, packed into rows."""
    stream = (_encoded(chat, document) for document in documents(corpus, seed))
    rows_per_step = TOKENS_PER_STEP // SEQ_LEN
    for pool_index in itertools.count():
        # Mixed, because Muon gives every step the same size: documents sorted by length would give
        # whole steps to kinds that cannot be learned, such as sums in one go.
        pool = list(itertools.islice(stream, DOCUMENTS_PER_POOL))
        packing = pack([len(d.input_ids) for d in pool], seq_len=SEQ_LEN, seed=seed + pool_index)
        rows = [[pool[index] for index in row] for row in packing.rows]
        for start in range(0, len(rows) - rows_per_step + 1, rows_per_step):
            yield build_batch(rows[start : start + rows_per_step], SEQ_LEN)


def _encoded(chat: Chat, document: Document) -> Encoded:
    return encoded(*encode_document(chat, document))


def pretrain(
    learner: Learner,
    recipe: Recipe,
    directory: Path,
    *,
    start_from: Path | None,
    seed: int,
    corpus_seed: int,
    log: Callable[[str], None],
) -> None:
    """Writes the trained model, its tokenizer and `training.json` into the directory."""
    started = time.perf_counter()
    directory.mkdir(parents=True, exist_ok=True)
    if start_from is None:
        tokenizer = train_tokenizer(build_corpus("student"), TOKENIZER_CORPUS_SEED)
    else:
        tokenizer = load_chat(str(start_from)).tokenizer
    tokenizer.save_pretrained(directory)
    chat = load_chat(str(directory))
    corpus = build_corpus(learner)
    torch.manual_seed(seed)
    if start_from is None:
        model = build_model(recipe, chat)
    else:
        model = LlamaForCausalLM.from_pretrained(
            start_from, dtype=torch.float32, local_files_only=True, use_safetensors=True
        )
    curve: list[StepMetrics] = []

    def record(metrics: StepMetrics) -> None:
        curve.append(metrics)
        if metrics.step % LOG_EVERY == 0:
            recent = _mean_loss(curve[-LOG_EVERY:])
            log(
                f"{learner} step {metrics.step} loss {recent:.4f} "
                f"tok/s {metrics.tokens_per_second:.0f}"
            )

    fit(
        LabelledLoss(model),
        corpus_batches(corpus, chat, seed=corpus_seed),
        build_optimizers(model, optimizer="muon", learning_rate=recipe.learning_rate),
        Schedule(
            learning_rate=recipe.learning_rate,
            num_steps=recipe.num_steps,
            decay="linear",
            decay_fraction=0.6,
        ),
        log=record,
    )
    model.generation_config = GenerationConfig(
        eos_token_id=chat.tokenizer.eos_token_id,
        pad_token_id=chat.tokenizer.pad_token_id,
        do_sample=False,
    )
    model.to(torch.bfloat16).save_pretrained(directory)
    stage = {
        "learner": learner,
        **asdict(recipe),
        "seed": seed,
        "corpus_seed": corpus_seed,
        "world_seed": WORLD_SEED,
        "seconds": round(time.perf_counter() - started, 1),
        "loss": [
            round(_mean_loss(curve[i : i + LOG_EVERY]), 4)
            for i in range(0, len(curve) - LOG_EVERY + 1, LOG_EVERY)
        ],
    }
    earlier = read_stages(start_from) if start_from else []
    num_parameters = sum(p.numel() for p in model.parameters())
    summary = {"num_parameters": num_parameters, "stages": [*earlier, stage]}
    (directory / "training.json").write_text(json.dumps(summary, indent=1) + "\n")


def _mean_loss(steps: Sequence[StepMetrics]) -> float:
    return statistics.mean(step.loss for step in steps if step.loss is not None)


def read_stages(directory: Path) -> list[dict[str, Any]]:
    """The training runs behind a model, oldest first, as its `training.json` lists them."""
    stages: list[dict[str, Any]] = json.loads((directory / "training.json").read_text())["stages"]
    return stages


def main() -> None:
    """Trains one model."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("learner", choices=sorted(RECIPES))
    parser.add_argument("directory", type=Path)
    parser.add_argument("--start-from", type=Path, help="model directory to continue from")
    parser.add_argument("--num-steps", type=int)
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--seed", type=int, default=0, help="seed of the weights")
    parser.add_argument("--corpus-seed", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    recipe = RECIPES[arguments.learner]
    changes = {
        k: v for k in ("num_steps", "learning_rate") if (v := getattr(arguments, k)) is not None
    }
    recipe = Recipe(**(asdict(recipe) | changes))
    pretrain(
        arguments.learner,
        recipe,
        arguments.directory,
        start_from=arguments.start_from,
        seed=arguments.seed,
        corpus_seed=arguments.corpus_seed,
        log=lambda line: print(line, flush=True),
    )


if __name__ == "__main__":
    main()
