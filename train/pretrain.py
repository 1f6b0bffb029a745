"""How the microworld's student and teacher were made: a corpus from a seed, sft's loop, two checkpoints.

    OMP_WAIT_POLICY=passive python -m train.pretrain student OUT
    OMP_WAIT_POLICY=passive python -m train.pretrain teacher OUT

Shapes: B documents of a step, T tokens of the longest.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

from orca2_gen.chat import Chat, load_chat
from orca2_gen.microworld.corpus import Corpus, Learner, documents
from orca2_gen.microworld.instructions import microworld_strategies
from orca2_gen.microworld.task_files import draw_task_items, held_out_ids
from orca2_gen.microworld.tokenizer import MAX_POSITIONS, encode_document, train_tokenizer
from orca2_gen.microworld.world import WORLD_SEED, build_world
from train.batches import IGNORE_INDEX, Batch
from train.sft import LabelledLoss, Schedule, StepMetrics, build_optimizers, fit

TOKENIZER_CORPUS_SEED, TRAINING_CORPUS_SEED = 1, 2
TOKENS_PER_STEP = 4096
"""Slots of a step, padding included."""
DOCUMENTS_PER_POOL = 4096
"""Documents that are sorted by length together, so that those of a step are about equally long."""
LOG_EVERY = 50


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """A model's size and its training."""

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
        num_steps=1250,
    ),
    "teacher": Recipe(
        hidden_size=224,
        intermediate_size=608,
        num_hidden_layers=4,
        num_attention_heads=7,
        learning_rate=3e-3,
        num_steps=1000,
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
    """Batches without end of about equally long documents, one to a row: no attention mask is needed."""
    rng = random.Random(seed)
    stream = (encode_document(chat, document) for document in documents(corpus, seed))
    while True:
        pool = sorted(itertools.islice(stream, DOCUMENTS_PER_POOL), key=lambda encoded: len(encoded[0]))
        steps: list[list[tuple[tuple[int, ...], int]]] = [[]]
        for encoded in pool:
            if (len(steps[-1]) + 1) * len(encoded[0]) > TOKENS_PER_STEP:
                steps.append([])
            steps[-1].append(encoded)
        rng.shuffle(steps)
        yield from (_padded_batch(step) for step in steps)


def _padded_batch(rows: list[tuple[tuple[int, ...], int]]) -> Batch:
    # Positions run on through the padding: a restart would be read as packing and cost an attention mask.
    seq_len = max(len(ids) for ids, _ in rows)
    input_ids_BT = np.zeros((len(rows), seq_len), dtype=np.int64)
    labels_BT = np.full((len(rows), seq_len), IGNORE_INDEX, dtype=np.int64)
    for b, (ids, num_given) in enumerate(rows):
        input_ids_BT[b, : len(ids)] = ids
        labels_BT[b, num_given : len(ids)] = ids[num_given:]
    return Batch(
        input_ids_BT=torch.from_numpy(input_ids_BT),
        labels_BT=torch.from_numpy(labels_BT),
        position_ids_BT=torch.arange(seq_len).expand(len(rows), -1),
        num_labelled_tokens=sum(len(ids) - num_given for ids, num_given in rows),
        num_tokens=sum(len(ids) for ids, _ in rows),
    )


def pretrain(
    learner: Learner, recipe: Recipe, directory: Path, *, seed: int, log: Callable[[str], None]
) -> None:
    """Writes the trained model of this learner, its tokenizer and `training.json` into the directory."""
    started = time.perf_counter()
    directory.mkdir(parents=True, exist_ok=True)
    # One tokenizer for both: the student's corpus holds every name and word.
    train_tokenizer(build_corpus("student"), TOKENIZER_CORPUS_SEED).save_pretrained(directory)
    chat = load_chat(str(directory))
    corpus = build_corpus(learner)
    torch.manual_seed(seed)
    model = build_model(recipe, chat)
    curve: list[StepMetrics] = []

    def record(metrics: StepMetrics) -> None:
        curve.append(metrics)
        if metrics.step % LOG_EVERY == 0:
            recent = sum(m.loss for m in curve[-LOG_EVERY:]) / LOG_EVERY
            log(f"{learner} step {metrics.step} loss {recent:.4f} tok/s {metrics.tokens_per_second:.0f}")

    fit(
        LabelledLoss(model),
        corpus_batches(corpus, chat, seed=TRAINING_CORPUS_SEED),
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
        eos_token_id=chat.tokenizer.eos_token_id, pad_token_id=chat.tokenizer.pad_token_id, do_sample=False
    )
    model.to(torch.bfloat16).save_pretrained(directory)
    summary = {
        "learner": learner,
        "recipe": asdict(recipe),
        "seed": seed,
        "world_seed": WORLD_SEED,
        "num_parameters": sum(p.numel() for p in model.parameters()),
        "num_steps": len(curve),
        "seconds": round(time.perf_counter() - started, 1),
        "loss": [round(sum(m.loss for m in curve[i : i + 50]) / 50, 4) for i in range(0, len(curve) - 49, 50)],
    }
    (directory / "training.json").write_text(json.dumps(summary, indent=1) + "\n")


def main() -> None:
    """Trains one model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("learner", choices=sorted(RECIPES))
    parser.add_argument("directory", type=Path)
    parser.add_argument("--num-steps", type=int)
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    recipe = RECIPES[arguments.learner]
    changes = {k: v for k in ("num_steps", "learning_rate") if (v := getattr(arguments, k)) is not None}
    recipe = Recipe(**(asdict(recipe) | changes))
    pretrain(
        arguments.learner, recipe, arguments.directory, seed=arguments.seed, log=lambda line: print(line, flush=True)
    )


if __name__ == "__main__":
    main()
