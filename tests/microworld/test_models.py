"""The shipped checkpoints: small, loadable, and as accurate as the log says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from orca2_gen.chat import encode_prompt, load_chat, tokenizer_digest
from orca2_gen.microworld.corpus import problem_of
from orca2_gen.microworld.instructions import microworld_strategies
from orca2_gen.microworld.task_files import draw_task_items
from orca2_gen.microworld.tokenizer import MAX_POSITIONS
from orca2_gen.microworld.world import build_world
from orca2_gen.prompts import prompt_messages, user_text

MICROWORLD = Path(__file__).parents[2] / "orca2_gen" / "microworld"
LEARNERS = ("student", "teacher")
MAX_BYTES = 20_000_000


def test_both_models_together_are_smaller_than_20_megabytes() -> None:
    files = [file for name in LEARNERS for file in (MICROWORLD / name).iterdir()]
    assert sum(file.stat().st_size for file in files) < MAX_BYTES


def test_both_models_share_one_tokenizer_and_template() -> None:
    assert len({tokenizer_digest(str(MICROWORLD / name)) for name in LEARNERS}) == 1


@pytest.mark.parametrize("name", LEARNERS)
def test_a_model_loads_in_bfloat16_and_reverses_letters(name: str) -> None:
    directory = MICROWORLD / name
    chat, strategies = load_chat(str(directory)), microworld_strategies()
    model = AutoModelForCausalLM.from_pretrained(directory, local_files_only=True)
    assert model.dtype == torch.bfloat16
    assert model.generation_config.eos_token_id == chat.tokenizer.eos_token_id
    item = draw_task_items(build_world())["reverse", "test"][0]
    user = user_text(problem_of(item), strategies)
    system = strategies.instructions["direct_answer"]
    prompt = torch.tensor([encode_prompt(chat, prompt_messages(system, user))])
    output = model.generate(prompt, max_new_tokens=16, do_sample=False)[0, prompt.shape[1] :]
    assert chat.tokenizer.decode(output, skip_special_tokens=True) == f"Answer: {item.target}"


def test_every_prompt_of_the_task_files_fits_the_context() -> None:
    chat, strategies = load_chat(str(MICROWORLD / "student")), microworld_strategies()
    system = max((*strategies.instructions.values(), strategies.cautious_message), key=len)
    longest = max(
        len(encode_prompt(chat, prompt_messages(system, user_text(problem_of(item), strategies))))
        for items in draw_task_items(build_world()).values()
        for item in items
    )
    assert longest + 128 <= MAX_POSITIONS


def test_digits_are_single_tokens_and_names_one_token_each() -> None:
    chat = load_chat(str(MICROWORLD / "student"))
    assert len(chat.data_tokenizer.encode("3467").ids) == 4
    for person in build_world().people:
        assert len(chat.data_tokenizer.encode(f" {person}").ids) == 1


def test_the_log_names_both_models_and_every_shipped_family() -> None:
    log = json.loads((MICROWORLD / "pretrain_log.json").read_text())
    shipped = {path.name.split(".")[0] for path in (MICROWORLD / "tasks").glob("*.jsonl")}
    for name in LEARNERS:
        assert shipped <= set(log[name]["cells"])
        assert (
            json.loads((MICROWORLD / name / "training.json").read_text()) == log[name]["training"]
        )
