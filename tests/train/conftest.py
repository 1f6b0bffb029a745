"""Small random Llamas, examples and dataset directories for the tests of this folder."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

from orca2_gen.chat import Chat, encode_conversation
from orca2_gen.dataset.write import DatasetPlan
from orca2_gen.prompts import prompt_messages
from orca2_gen.records import Example, Message
from orca2_gen.run_directory.arrow_files import write_records
from orca2_gen.strategies import Strategies
from tests.conftest import dataset_of
from train.batches import Encoded, encoded

BuildExample = Callable[..., Encoded]
BuildLlama = Callable[..., LlamaForCausalLM]


@pytest.fixture
def vocab_size() -> int:
    """Of `build_llama` and `examples`."""
    return 64


@pytest.fixture
def build_example() -> BuildExample:
    """A function that builds an example of these tokens."""

    return encoded


@pytest.fixture
def examples(build_example: BuildExample, vocab_size: int) -> list[Encoded]:
    """Forty examples of 3 to 30 tokens, some of them plain text without a prompt."""
    generator = random.Random(7)
    made = []
    for _ in range(40):
        length = generator.randint(3, 30)
        ids = tuple(generator.randrange(vocab_size) for _ in range(length))
        made.append(build_example(ids, generator.choice([0, 1, length // 2])))
    return made


@pytest.fixture
def build_llama(vocab_size: int) -> BuildLlama:
    """A function that builds the same random Llama each time."""

    def build(attn_implementation: str = "sdpa", *, tied: bool = True) -> LlamaForCausalLM:
        return _llama(vocab_size, attn_implementation, tied=tied)

    return build


def _llama(vocab_size: int, attn_implementation: str = "sdpa", *, tied: bool) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=1024,
        tie_word_embeddings=tied,
        attn_implementation=attn_implementation,
        initializer_range=0.2,
        bos_token_id=None,
        eos_token_id=2,
    )
    return LlamaForCausalLM(config)


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory: pytest.TempPathFactory, chatml_dir: Path) -> Path:
    """A model directory with tokenizer and template, its embeddings tied to its head."""
    return _save_model(tmp_path_factory.mktemp("tied"), chatml_dir, tied=True)


@pytest.fixture(scope="session")
def untied_model_dir(tmp_path_factory: pytest.TempPathFactory, chatml_dir: Path) -> Path:
    """As `model_dir`, with a head of its own."""
    return _save_model(tmp_path_factory.mktemp("untied"), chatml_dir, tied=False)


def _save_model(directory: Path, chatml_dir: Path, *, tied: bool) -> Path:
    model = _llama(400, tied=tied)
    model.generation_config = GenerationConfig(eos_token_id=2, pad_token_id=0, max_new_tokens=33)
    model.save_pretrained(directory)
    for file in chatml_dir.iterdir():
        shutil.copy(file, directory)
    return directory


@pytest.fixture(scope="session")
def dataset_dir(
    tmp_path_factory: pytest.TempPathFactory, chatml_dir: Path, chatml: Chat, strategies: Strategies
) -> Path:
    """A proved dataset of 60 examples; copy it before you change it."""
    run_dir = tmp_path_factory.mktemp("run")
    made = []
    for index in range(60):
        system, user = prompt_messages(
            strategies.cautious_message, f"What is {index} plus {3 * index}?"
        )
        messages = (system, user, Message(role="assistant", content=f"Answer: {4 * index}"))
        input_ids, num_prompt_tokens = encode_conversation(chatml, messages)
        made.append(
            Example(
                problem_id=f"sums/train/{index}",
                task="sums",
                strategy="direct_answer",
                messages=messages,
                input_ids=input_ids,
                num_prompt_tokens=num_prompt_tokens,
            )
        )
    entry = write_records(run_dir, "examples/sums.arrow", made, Example)
    plan = DatasetPlan(
        examples=(entry,),
        tokenizer=str(chatml_dir),
        prompts="erased",
        examples_per_shard=25,
        key="key",
        name="sums",
    )
    return Path(dataset_of(run_dir, plan, strategies).directory)
