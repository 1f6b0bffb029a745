"""The microworld's pair with tokens for thoughts: does a student learn to close its thoughts?

Student and teacher get `<think>` and `</think>` as new tokens. The teacher is trained for a moment
on conversations in which the working stands between them; then the whole method runs with
`rationales.thoughts = "keep"`: scores, selection, rationales with thoughts, erasure, training and
evaluation, with real engines. The last line on stdout is one JSON document with the share of
answers in which the thought that was begun is closed by its id, before and after training.

    python -m benchmarks.thinking_microworld OUT
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import random
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from orca2_gen.chat import Chat, encode_conversation, load_chat
from orca2_gen.config.load import load_config
from orca2_gen.console.progress import show_stage
from orca2_gen.dataset.write import DatasetPlan, write_dataset
from orca2_gen.microworld.corpus import draw_chat
from orca2_gen.microworld.instructions import microworld_strategies
from orca2_gen.preparation.prepare import Wish, prepare
from orca2_gen.records import Example, Message, Rationale, StudentScore
from orca2_gen.run_directory.arrow_files import write_records
from orca2_gen.run_directory.ledger import committed_rows
from ray_jobs.demo import CONFIG
from ray_jobs.evaluation import score_model
from ray_jobs.pipeline import run_all
from ray_jobs.run import open_run
from train.launch import train_student, trained_student
from train.pretrain import build_corpus

START, END = "<think>", "</think>"
LEARNING_RATE = 3e-3
"""That of the pair's own first training: the rows of new tokens have a long way to go."""
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.role == 'assistant' and message.reasoning_content %}"
    "<think>\n{{ message.reasoning_content }}\n</think>\n\n"
    "{% endif %}{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Thoughts:
    """What a model did with its thoughts in some answers."""

    num_answers: int
    num_begun: int
    num_closed: int
    """Answers with one beginning, one end behind it, and no other marker."""
    accuracy: float

    @property
    def closed_share(self) -> float:
        return self.num_closed / max(1, self.num_begun)


def with_think_tokens(source: Path, out: Path) -> Path:
    """A copy of a model directory that has tokens for a thought, and a template that writes it."""
    template = out / "thinking.jinja"
    template.write_text(TEMPLATE)
    wish = Wish(
        model=source,
        out=out / source.name,
        template=str(template),
        end="<|im_end|>",
        tokens=(START, END),
        replaces_template=True,
    )
    prepare(wish)
    return wish.out


def thinking_rows(chat: Chat, num_rows: int, seed: int) -> Iterator[Example]:
    """Conversations of the teacher's corpus, their working as a thought."""
    corpus, draw = build_corpus("teacher"), random.Random(seed)
    made = 0
    while made < num_rows:
        *asked, said = draw_chat(corpus, draw).messages
        working, found, answer = said.content.rpartition("Answer:")
        if not (found and working.strip()):
            continue
        row = Message(role="assistant", content=f"{found}{answer}", reasoning=working.strip())
        messages = (*asked, row)
        input_ids, num_prompt_tokens = encode_conversation(chat, messages)
        yield Example(
            problem_id=f"thoughts/train/{made}",
            task="thoughts",
            strategy="step_by_step",
            messages=messages,
            input_ids=input_ids,
            num_prompt_tokens=num_prompt_tokens,
        )
        made += 1


def taught_to_think(model: Path, out: Path, num_rows: int, num_steps: int) -> Path:
    """The model, trained on conversations with thoughts."""
    chat = load_chat(str(model))
    run_dir = out / "first"
    entry = write_records(
        run_dir, "examples/thoughts.arrow", list(thinking_rows(chat, num_rows, 1)), Example
    )
    plan = DatasetPlan(
        examples=(entry,),
        tokenizer=str(model),
        prompts="instruction_kept",
        examples_per_shard=50_000,
        has_reasoning=True,
        key="thoughts",
        name="thoughts",
    )
    write_dataset(run_dir, plan, chat, microworld_strategies())
    settings = {
        "run_dir": run_dir,
        "training.model": model,
        "training.prompts": "instruction_kept",
        "training.num_steps": num_steps,
        "training.rows_per_step": 8,
        "training.learning_rate": LEARNING_RATE,
    }
    train_student(CONFIG, [f"{key}={value}" for key, value in settings.items()])
    return run_dir / "student"


def thoughts_in(chat: Chat, scores: Iterable[StudentScore]) -> Thoughts:
    """What the model of this Chat did with its thoughts, counted on the ids that it generated."""
    start, end = chat.tokenizer.convert_tokens_to_ids([START, END])
    rows = list(scores)
    marked = [[token for token in row.token_ids if token in (start, end)] for row in rows]
    return Thoughts(
        num_answers=len(rows),
        num_begun=sum(start in each for each in marked),
        num_closed=sum(each == [start, end] for each in marked),
        accuracy=sum(row.score for row in rows) / max(1, len(rows)),
    )


def measure(out: Path, overrides: Iterable[str] = (), *, num_rows: int, num_steps: int) -> Any:
    """The JSON document of the whole benchmark, which writes into the directory `out`."""
    world = CONFIG.parent.parent.parent / "orca2_gen" / "microworld"
    student = with_think_tokens(world / "student", out)
    teacher = with_think_tokens(world / "teacher", out)
    teacher = taught_to_think(teacher, out, num_rows, num_steps)
    settings = [
        f"run_dir={out / 'run'}",
        f"student.model={student}",
        f"teacher.model={teacher}",
        'rationales.thoughts="keep"',
        f"training.learning_rate={LEARNING_RATE}",
        "training.rows_per_step=8",
        "training.num_steps=240",
        *overrides,
    ]
    found: dict[str, Any] = {}
    with open_run(load_config(CONFIG, settings), show_stage) as run:
        summary = run_all(run)
        rationales = committed_rows(run.ledger, "rationales", Rationale)
        found["rows"] = summary.rows
        found["rows_with_a_thought"] = sum(bool(row.reasoning) for row in rationales)
        before = score_model(run, "before")
    train_student(CONFIG, settings)
    with open_run(config := load_config(CONFIG, settings), show_stage) as run:
        after = score_model(run, "after", trained_student(config))
        chat = load_chat(str(student))
        for name, scores in (("before", before), ("after", after)):
            thoughts = thoughts_in(chat, scores)
            found[name] = dataclasses.asdict(thoughts) | {"closed": thoughts.closed_share}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Do students of the microworld learn to think?")
    parser.add_argument("out", type=Path, help="a new directory, which holds all models and runs")
    parser.add_argument("--rows", type=int, default=4000, help="conversations that teach to think")
    parser.add_argument("--steps", type=int, default=100, help="optimizer steps on them")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides")
    options = parser.parse_args()
    options.out.mkdir(parents=True)
    found = measure(options.out, options.overrides, num_rows=options.rows, num_steps=options.steps)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
