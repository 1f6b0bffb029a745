"""Mistaken configs as a table: what is changed, the words that the line holds, the exit code (2).

    python -m tests.faults.mistakes        walks them all in this process and prints each line

Each is a call of `orca2` on a config that is right but for the mistake (`BASE` of mistaken.py). It
must end before Ray starts and before anything is written.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.faults.mistaken import (
    MODELS,
    Mistake,
    engine,
    files,
    removed,
    reported,
    sets,
    toml,
    vllm,
    written,
)

TASK = '[[tasks]]\nname = "more"\nformat = "jsonl"\npath = "{}"\n[student]'
STRATEGIES = 'cautious_message = "Careful."\nanswer_sentence = true\n'


def strategies(*tables: tuple[str, str], extra: str = "") -> str:
    found = [f'[[strategy]]\nname = "{name}"\ninstruction = "{text}"\n' for name, text in tables]
    return STRATEGIES + "".join(found) + extra


def own_strategies(body: str) -> list[str]:
    """Settings of a run with a strategies file of its own."""
    return [f"strategies={body}", "student.accuracy={}", "selection.none_solved=one"]


def with_strategies(name: str, body: str, *words: str) -> Mistake:
    def make(folder: Path) -> list[str]:
        (folder / "own.toml").write_text(body)
        return own_strategies(str(folder / "own.toml"))

    return files(name, make, *words)


def put(folder: Path, name: str, body: str) -> None:
    (folder / name).write_text(body)


def as_folder(folder: Path) -> None:
    (folder / "d").mkdir()


def linked(kind: str) -> Mistake:
    def make(folder: Path) -> list[str]:
        (os.symlink if kind == "symlink" else os.link)(
            folder / "sums.jsonl", folder / "other.jsonl"
        )
        return ["tasks.1.path=other.jsonl"]

    return files(f"a {kind} to another task's file", make, "tasks.1.path", "read by tasks.0.path")


def task_folder(folder: Path) -> list[str]:
    (folder / "both").mkdir()
    shutil.copy(folder / "letters.jsonl", folder / "both" / "a.jsonl")
    os.link(folder / "sums.jsonl", folder / "both" / "b.jsonl")
    return ["tasks.1.path=both"]


def split_dataset(folder: Path) -> list[str]:
    (folder / "splits").mkdir()
    (folder / "splits" / "dataset_dict.json").write_text("{}")
    return ["tasks.0.path=splits", "tasks.0.format=datasets"]


def parquet(folder: Path) -> list[str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"prompt": ["1 + 1?"], "label": ["2"]}), folder / "rows.parquet")
    return [
        "tasks.0.path=rows.parquet",
        "tasks.0.format=parquet",
        'tasks.0.columns={question="prompt", answer="lable"}',
    ]


def foreign_dataset(folder: Path) -> list[str]:
    import datasets

    datasets.Dataset.from_dict({"a": [1]}).save_to_disk(folder / "mine" / "dataset")
    return [f"run_dir={folder / 'mine'}"]


def inside_a_run(folder: Path) -> list[str]:
    (folder / "one").mkdir()
    (folder / "one" / ".orca2-run").write_text("{}")
    return [f"run_dir={folder / 'one' / 'dataset'}"]


def special(make: str, key: str) -> Mistake:
    """A device or FIFO in place of a file."""

    def prepare(folder: Path) -> list[str]:
        os.mkfifo(folder / "fifo")
        return [f"{key}={folder / 'fifo' if make == 'FIFO' else '/dev/zero'}"]

    return files(f"a {make} as {key}", prepare, key, "expected" if key != "run_dir" else "not a")


EVALUATED = "evaluation.tasks.0"
CLOSED = [
    # Numbers, truth values and text
    sets("selection.block_size=true", "selection.block_size", "true", "a whole number"),
    sets("selection.block_size=1.0", "selection.block_size", "1.0", "a whole number"),
    sets("selection.block_size='4'", "selection.block_size", "'4'", "a whole number"),
    sets("selection.block_size=many", "selection.block_size", "'many'", "a whole number"),
    sets("selection.block_size=0", "selection.block_size", "at least 1"),
    sets("selection.block_size=-3", "selection.block_size", "-3", "at least 1"),
    sets("selection.block_size=65", "selection.block_size", "at most 64"),
    sets("selection.block_size=[4]", "selection.block_size", "a list", "a whole number"),
    sets("selection.block_size={a=1}", "selection.block_size", "a section", "a whole number"),
    sets("selection.block_size=1979-05-27", "selection.block_size", "a date", "a whole number"),
    sets(f"selection.block_size={'9' * 90}", "selection.block_size", "at most 64", "60 digits"),
    sets(f"selection.block_size={'9' * 5000}", "selection.block_size", "too many digits"),
    sets("run_seed=true", "run_seed", "true", "a whole number"),
    sets("run_seed=-1", "run_seed", "at least 0"),
    sets("run_seed=inf", "run_seed", "inf", "a whole number"),
    sets("rows_per_unit=0", "rows_per_unit", "at least 1"),
    sets("rows_per_unit=100000", "rows_per_unit", "at most 65536"),
    sets("rows_per_unit=false", "rows_per_unit", "false", "a whole number"),
    sets("rationales.temperature=inf", "rationales.temperature", "finite"),
    sets("rationales.temperature=nan", "rationales.temperature", "nan"),
    sets("rationales.temperature=-inf", "rationales.temperature", "-inf"),
    sets("rationales.temperature=true", "rationales.temperature", "true", "a number"),
    sets("rationales.temperature='warm'", "rationales.temperature", "'warm'", "a number"),
    sets("rationales.temperature=0", "rationales.temperature", "more than 0"),
    sets("rationales.top_p=1.5", "rationales.top_p", "at most 1.0"),
    sets("rationales.top_p=0", "rationales.top_p", "more than 0"),
    sets("rationales.max_attempts=65", "rationales.max_attempts", "at most 64"),
    sets("rationales.verify=1", "rationales.verify", "true or false"),
    sets("rationales.verify='yes'", "rationales.verify", "'yes'", "true or false"),
    sets("selection.indifference=nan", "selection.indifference", "nan"),
    sets("selection.indifference=1.01", "selection.indifference", "at most 1.0"),
    sets("selection.delta=0", "selection.delta", "more than 0"),
    sets("selection.delta=1", "selection.delta", "less than 1"),
    sets("selection.delta=nan", "selection.delta", "nan"),
    sets("selection.cautious_arm=1", "selection.cautious_arm", "true or false"),
    sets("selection.scored_problems=0", "selection.scored_problems", "at least 1"),
    sets("selection.open_requests=0.5", "selection.open_requests", "a whole number"),
    sets("student.accuracy.step_by_step=inf", "student.accuracy.step_by_step", "inf"),
    sets("student.accuracy.step_by_step=nan", "student.accuracy.step_by_step", "nan"),
    sets("student.accuracy.step_by_step=true", "student.accuracy.step_by_step", "a number"),
    sets("student.accuracy.step_by_step=1.5", "student.accuracy.step_by_step", "at most 1.0"),
    sets("student.accuracy=0.5", "student.accuracy", "0.5", "a table"),
    sets("student.max_model_len=8", "student.max_model_len", "at least 16"),
    sets("student.max_num_seqs=true", "student.max_num_seqs", "a whole number"),
    sets("student.replicas=0", "student.replicas", "at least 1"),
    sets("dispatch.start_seconds=inf", "dispatch.start_seconds", "inf"),
    sets("dispatch.stall_seconds=nan", "dispatch.stall_seconds", "nan"),
    sets("dispatch.request_seconds=true", "dispatch.request_seconds", "a number"),
    sets("dispatch.backoff_seconds=-1", "dispatch.backoff_seconds", "at least 0"),
    sets("dispatch.max_rejection_rate=2", "dispatch.max_rejection_rate", "at most 1.0"),
    sets("dispatch.rejection_rows=false", "dispatch.rejection_rows", "a whole number"),
    sets(
        "dispatch.min_replicas=2",
        "min_replicas is 2",
        "student.replicas is 1",
        "lower the first",
    ),
    sets("training.learning_rate=inf", "training.learning_rate", "inf"),
    sets("training.learning_rate='1e-5'", "training.learning_rate", "a number"),
    sets("training.seq_len=true", "training.seq_len", "a whole number"),
    sets("training.max_grad_norm=nan", "training.max_grad_norm", "nan"),
    sets("training.weight_decay=-0.1", "training.weight_decay", "at least 0"),
    sets("training.max_rows_per_task.sums=true", "max_rows_per_task.sums", "a whole number"),
    sets("training.max_rows_per_task=[1]", "training.max_rows_per_task", "a table"),
    sets("dataset.examples_per_shard=0", "dataset.examples_per_shard", "at least 1"),
    sets("scoring.max_tokens=0", "scoring.max_tokens", "at least 1"),
    sets("scoring.max_tokens=true", "scoring.max_tokens", "a whole number"),
    sets("scoring.retry_max_tokens=1", "retry_max_tokens is 1", "64"),
    sets("judging.max_tokens=-1", "judging.max_tokens", "at least 1"),
    sets("evaluation.max_tokens=inf", "evaluation.max_tokens", "a whole number"),
    sets("tasks.0.rows_per_task=true", "tasks.0.rows_per_task", "a whole number"),
    sets("tasks.0.rows_per_category=0", "tasks.0.rows_per_category", "at least 1"),
    sets("tasks.0.sample_seed=-1", "tasks.0.sample_seed", "at least 0"),
    sets("tasks.0.few_shot=3", "tasks.0.few_shot", "is 3: expected a list of 2", "[3, 5]"),
    sets("tasks.0.few_shot=[1]", "tasks.0.few_shot", "is a list of 1: expected a list of 2"),
    sets("tasks.0.few_shot=[1, 2, 3]", "tasks.0.few_shot", "is a list of 3: expected a list of 2"),
    sets("tasks.0.few_shot=[5, 3]", "few_shot", "swap"),
    sets("tasks.0.few_shot=[true, 3]", "tasks.0.few_shot.0", "a whole number"),
    # One of some words
    sets("selection.method=grid", "selection.method", "'grid'", "race", "full_grid"),
    sets("selection.method=full-grid", "selection.method", "did you mean full_grid?"),
    sets("selection.select_by=family", "selection.select_by", "category"),
    sets("selection.policy=best", "policy", "student_best", "fixed:STRATEGY"),
    sets("selection.policy=fixed:cot", "selection.policy", "'cot'", "step_by_step"),
    sets("selection.policy=fixed:", "selection.policy", "step_by_step"),
    sets("selection.policy=3", "selection.policy", "text in quotes"),
    sets("selection.none_solved=cot", "selection.none_solved", "'cot'", "step_by_step"),
    sets("selection.none_solved='a b'", "selection.none_solved", "'a b'", "step_by_step"),
    sets("selection.none_solved=step_by_stp", "did you mean 'step_by_step'?"),
    sets("evaluation.messages=[cautious]", "expected a list; put KEY=VALUE in single quotes"),
    sets("tasks.0.columns={question=a}", "a table", "put KEY=VALUE in single quotes"),
    sets("evaluation.messages=['cautios']", "evaluation.messages", "did you mean 'cautious'?"),
    sets("erasure.prompts=kept", "erasure.prompts", "erased", "instruction_kept"),
    sets("dispatch.schedule=overlaped", "dispatch.schedule", "did you mean overlapped?"),
    sets("training.optimizer=Adam", "training.optimizer", "adamw"),
    sets("training.dtype=fp8", "training.dtype", "bfloat16"),
    sets("training.gradient_checkpointing=3", "is 3: expected selective, true or false"),
    sets("training.skip_steps=3", "training.skip_steps", "expected a list"),
    sets("training.stages=3", "training.stages", "a list of sections [[training.stages]]"),
    sets("training.lora_rank=0", "training.lora_rank", "at least 1"),
    sets("tasks.0.language=English", "tasks.0.language", "the code of a language", '"en"'),
    sets("tasks.0.license=' '", "tasks.0.license", "apache-2.0"),
    sets("evaluation.messages=[]", "evaluation.messages", "at least 1"),
    sets("evaluation.messages=['cautious', 'cautious']", "evaluation.messages", "twice"),
    sets("evaluation.messages=cautious", "evaluation.messages", "a list"),
    sets("evaluation.messages=['careful']", "no 'careful'", "cautious, empty, direct_"),
    sets("student.engine=openai", "student.engine", "'openai'", "vllm"),
    sets("student.engine=3", "student.engine", "3", "vllm"),
    sets("tasks.0.format=json", "tasks.0.format", "did you mean jsonl?"),
    sets("tasks.0.answer_type=number", "tasks.0.answer_type", "numeric"),
    sets("tasks.0.answer_type=open", "'sums' is open", "[judge]"),
    sets(f"{EVALUATED}.answer_type=open", "'held_out' is open", "[judge]"),
    # Names
    sets("tasks.0.name='a b'", "tasks.0.name", "'a b'", "letters, digits, ., _ or -", "at most 64"),
    sets("tasks.0.name='../x'", "tasks.0.name", "letters, digits"),
    sets("tasks.0.name=''", "tasks.0.name", "letters, digits"),
    sets(f"tasks.0.name={'n' * 65}", "tasks.0.name", "at most 64"),
    sets("tasks.0.name='\u00e9'", "tasks.0.name", "letters, digits"),
    sets("tasks.0.name='.hidden'", "tasks.0.name", "beginning with a letter or digit"),
    sets("tasks.0.name=5", "tasks.0.name", "text in quotes"),
    sets("tasks.0.name=letters", "tasks.0.name and tasks.1.name", "differ", "change one"),
    sets("tasks.0.name=Letters", "'Letters' and 'letters'", "more than capital letters"),
    sets("tasks.0.split='test set'", "tasks.0.split", "letters, digits"),
    sets("student.accuracy.step_by_stp=0.5", "student.accuracy", "did you mean 'step_by_step'?"),
    sets("teacher.accuracy.cot=0.5", "teacher.accuracy", "'cot' is no strategy", "step_by_step"),
    # Keys and sections
    sets("selection.blok_size=3", "selection.blok_size", "did you mean 'block_size'?"),
    sets("max_tokens=3", "max_tokens", "it is a key of", "[scoring]"),
    sets("student.gpus=3", "student.gpus", "spelling"),
    sets("student.model=x", "student.model", 'goes with engine = "vllm"', 'engine = "scripted"'),
    sets("student.vllm=3", "student.vllm", "spelling"),
    sets("teacher.accuracy.vllm='x'", "teacher.accuracy.vllm", "'x'", "a number"),
    sets("tasks.0.columns.str=3", "tasks.0.columns.str", "the name of a column"),
    sets("tasks.0.colums={}", "tasks.0.colums", "did you mean 'columns'?"),
    sets("trainig.seq_len=16", "[trainig]", "did you mean 'training'?"),
    sets("tasks=5", "tasks", "a list of sections [[tasks]]", "5"),
    sets("tasks=[]", "tasks", "a list of sections [[tasks]]", "none"),
    sets("tasks=[5]", "tasks.0", "a section [[tasks]]"),
    sets("tasks=sums.jsonl", "tasks", "a list of sections [[tasks]]", "'sums.jsonl'"),
    sets("tasks={name='a'}", "tasks", "a list of sections [[tasks]]"),
    sets("evaluation.tasks={}", "a list of sections [[evaluation.tasks]]"),
    sets("selection=race", "selection", "a section [selection]", "'race'"),
    sets("student=scripted", "student", "a section [student]", "'scripted'"),
    sets("judge=[]", "judge", "a section [judge]"),
    sets("training=[[1]]", "training", "a section [training]"),
    sets("selection.policy.x=1", "selection"),
    sets("selection", "--set 'selection' has no value", "key=value"),
    sets("=3", "--set: expected key=value"),
    sets("tasks.7.path=x", "--set tasks.7.path: tasks is a list of 2", "from 0 to 1"),
    sets("tasks.sums.path=x", "tasks is a list of 2", "in place of 'sums'"),
    sets("tasks.2={}", "tasks is a list of 2", "from 0 to 1"),
    sets("run_dir.x=3", "--set run_dir.x: run_dir is a value"),
    toml(
        "one bracket in place of two",
        {'[[tasks]]\nname = "letters"': '[tasks.more]\nname = "letters"'},
        "unknown section [tasks.more]",
        "begin each of tasks with [[tasks]]",
    ),
    toml("a section twice", {"[training]": "[selection]"}, "is not TOML: line", "a second time"),
    toml(
        "a key twice",
        {"rows_per_unit = 8": "rows_per_unit = 8\nrows_per_unit = 9"},
        "is not TOML: line 4",
        "a second time",
    ),
    toml(
        "text without quotes",
        {'name = "sums"': "name = sums"},
        "is not TOML: line 5, column 8",
        "text in quotes",
    ),
    toml("an open bracket", {"[scoring]": "[scoring"}, "is not TOML: line", "no closing ]"),
    toml("a byte that is not text", {"rows_per_unit": "\udcffrows_per_unit"}, "line 3", "UTF-8"),
    toml("no run_dir", {"run_dir =": "#"}, "run_dir", "is missing"),
    toml("no teacher", {"[teacher]": "[techer]"}, "[techer]", "did you mean 'teacher'?"),
    toml("no student section", {"[student]": "[student.more]"}, "student"),
    toml(
        "no format",
        {'format = "jsonl"\npath = "sums.jsonl"': 'path = "sums.jsonl"'},
        "tasks.0.format",
        "missing",
        "jsonl, parquet",
    ),
    toml("nested very deeply", {"[scoring]": f"x = {'[' * 5000}\n[scoring]"}, "config"),
    toml("a section of scripts in JSON", {"[scoring]": '{"scoring": 1}'}, "is not TOML"),
]
PATHS = [
    sets("tasks.0.path=", "tasks.0.path", "not empty"),
    sets("tasks.0.path='  '", "tasks.0.path is blank", "expected a path"),
    sets("tasks.0.path=nosuch.jsonl", "tasks.0.path", "nothing at", "nosuch.jsonl", "--set"),
    sets("tasks.0.path=s3://bucket/rows.jsonl", "tasks.0.path", "an address"),
    sets("tasks.0.path=hf://datasets/gsm8k", "tasks.0.path", "an address"),
    sets("tasks.0.path=~nobody-here/x", "tasks.0.path", "home", "expected a path"),
    sets('tasks.0.path="a\\u0000b"', "tasks.0.path", "no path; remove"),
    sets(f"tasks.0.path={'x' * 300}", "tasks.0.path", "nothing at"),
    sets(f"tasks.0.path={'x/' * 3000}", "tasks.0.path", "characters"),
    sets("tasks.0.path=5", "tasks.0.path", "text in quotes"),
    sets("tasks.0.path=/dev/null", "tasks.0.path", "a device"),
    sets("tasks.0.path=run.toml/x", "tasks.0.path", "nothing at"),
    sets("tasks.1.path=sums.jsonl", "tasks.1.path", "read by tasks.0.path"),
    sets("tasks.1.path=./x/../sums.jsonl", "tasks.1.path", "read by tasks.0.path"),
    sets(f"{EVALUATED}.path=sums.jsonl", "evaluation.tasks.0.path", "tasks.0.path", "held-out"),
    linked("symlink"),
    linked("hard link"),
    files("a directory with another task's file", task_folder, "tasks.1.path", "tasks.0.path"),
    files(
        "an empty directory as a task",
        lambda f: (as_folder(f), ["tasks.0.path=d"])[1],
        "tasks.0.path",
        "found none",
    ),
    files("several splits", split_dataset, "several splits"),
    special("FIFO", "tasks.0.path"),
    special("device", "tasks.0.path"),
    sets("strategies=nosuch.toml", "strategies", "nothing at"),
    sets("strategies=.", "strategies", "a directory"),
    special("device", "strategies"),
    special("FIFO", "taxonomy"),
    sets("strategies=", "strategies", "not empty"),
    sets("taxonomy=nosuch.toml", "taxonomy", "nothing at"),
    sets("taxonomy=sums.jsonl", "taxonomy"),
    sets("student.tokenizer=nowhere", "student.tokenizer", "no directory at", "--set"),
    sets("student.tokenizer=sums.jsonl", "student.tokenizer", "no directory at"),
    sets("student.tokenizer=", "student.tokenizer", "not empty"),
    sets("student.tokenizer=meta-llama/Llama-2-7b", "student.tokenizer", "never downloaded"),
    sets("training.model=nowhere", "training.model", "no directory at"),
    sets("training.model=https://x.y/z", "training.model", "an address"),
    sets("run_dir=", "run_dir", "not empty"),
    sets("run_dir=' '", "run_dir is blank"),
    sets("run_dir=5", "run_dir", "text in quotes"),
    sets("run_dir=s3://bucket/run", "run_dir", "an address"),
    sets("run_dir=gs://bucket/run", "run_dir", "an address"),
    sets("run_dir=file:///tmp/x", "run_dir", "an address"),
    sets("run_dir=/", "the root of the file system", "directory of its own"),
    sets("run_dir=~", "your home directory", "directory of its own"),
    sets("run_dir=~nobody-here/x", "run_dir", "home"),
    sets("run_dir=sums.jsonl", "run_dir", "sums.jsonl"),
    sets("run_dir=run.toml", "run_dir", "not a directory"),
    sets("run_dir=run.toml/x", "run_dir", "not a directory"),
    sets("run_dir=sums.jsonl/x", "run_dir", "sums.jsonl"),
    sets("run_dir=.", "run_dir", "no run wrote"),
    sets("run_dir=/etc", "run_dir", "no run wrote"),
    sets("run_dir=/proc/x/y", "run_dir", "cannot be written"),
    sets(f"run_dir={MODELS / 'student'}", "run_dir and student.tokenizer are the same"),
    sets(f"run_dir={MODELS / 'student' / 'run'}", "lies inside student.tokenizer"),
    sets(f"run_dir={'x' * 300}", "run_dir", "File name too long"),
    sets('run_dir="a\\u0000b"', "run_dir", "no path; remove"),
    files("somebody's dataset in run_dir", foreign_dataset, "run_dir", "'dataset'"),
    files("run_dir inside a run", inside_a_run, "run_dir", "lies inside the run"),
    files(
        "run_dir is a dangling link",
        lambda f: (os.symlink(f / "no", f / "run"), None)[1],
        "run_dir",
        "leads to nothing; remove the link",
    ),
    files(
        "run_dir is a link to itself",
        lambda f: (os.symlink(f / "run", f / "run"), None)[1],
        "run_dir",
    ),
    special("FIFO", "run_dir"),
    sets("training.output=", "training.output", "not empty"),
    sets("training.output=s3://b/x", "training.output", "an address"),
    sets("training.output=.", "training.output", "holds tasks.0.path", "directory of its own"),
    sets(
        f"training.output={MODELS / 'student'}",
        "training.output and student.tokenizer are the same",
    ),
    sets(f"training.output={MODELS / 'student' / 'new'}", "training.output", "student.tokenizer"),
    sets("training.output=run", "training.output", "run_dir"),
    sets("training.output=run/dataset", "training.output", "the run itself writes"),
    sets("training.output=run/scores/x", "training.output", "the run itself writes"),
]
COLUMNS = [
    sets(
        "tasks.0.columns={quesion='question', answer='answer'}",
        "tasks.0.columns: unknown field 'quesion'",
        "did you mean 'question'?",
    ),
    sets("tasks.0.columns={question='question'}", "columns", "answer"),
    sets("tasks.0.columns={answer='answer'}", "columns", "question"),
    sets(
        "tasks.0.columns={question='', answer='answer'}",
        "tasks.0.columns: question names no column",
    ),
    sets(
        "tasks.0.columns={question=[], answer='answer'}",
        "tasks.0.columns: question names no column",
    ),
    sets(
        "tasks.0.columns={question=3, answer='answer'}", "tasks.0.columns", "the name of a column"
    ),
    sets("tasks.0.columns={question='question', answer=['a', 'b']}", "columns: answer", "several"),
    sets(
        "tasks.0.columns={question='question', answer='answer', answer_index='label'}",
        "leave one out",
    ),
    sets("tasks.0.columns=question", "tasks.0.columns", "a table"),
    sets(
        "tasks.0.columns={question='quest', answer='answer'}",
        "tasks.0.columns.question",
        "'quest'",
        "did you mean 'question'?",
    ),
    sets(
        "tasks.0.columns={question='question', answer='gold'}",
        "tasks.0.columns.answer",
        "'gold'",
        "it has id",
    ),
    sets("tasks.0.columns={question='question.text', answer='answer'}", "columns.question"),
    files(
        "a column that a Parquet file lacks",
        parquet,
        "tasks.0.columns.answer: no column 'lable'",
        "did you mean 'label'?",
    ),
    toml(
        "columns of a published format",
        {
            'format = "jsonl"\npath = "sums.jsonl"': 'format = "gsm8k"\npath = "sums.jsonl"\n'
            'columns = { question = "q", answer = "a" }'
        },
        "columns are for the formats",
    ),
    toml(
        "an answer type of another format",
        {'format = "jsonl"\npath = "sums.jsonl"': 'format = "aqua"\npath = "sums.jsonl"'},
        "answer_type",
        "multiple_choice",
    ),
    sets(f"{EVALUATED}.few_shot=[1, 2]", "few_shot", "'held_out'"),
]
TEXTS = [
    with_strategies(
        "two strategies with one text",
        strategies(("one", "Think."), ("two", "Think.")),
        "'one' and 'two'",
        "same instruction",
    ),
    with_strategies(
        "two texts that differ in blanks",
        strategies(("one", "Think now."), ("two", " Think   now.")),
        "same instruction",
    ),
    with_strategies(
        "a strategy equal to the cautious message",
        strategies(("one", "Careful.")),
        "'one'",
        "cautious message",
    ),
    with_strategies(
        "a strategy twice", strategies(("one", "A."), ("one", "B.")), "'one' is given twice"
    ),
    with_strategies("a strategy called cautious", strategies(("cautious", "A.")), "'cautious'"),
    with_strategies("a strategy with a capital letter", strategies(("One", "A.")), "'One'"),
    with_strategies(
        "a strategy without a text",
        strategies(("one", "  ")),
        "[[strategy]] number 1 ('one'): instruction is empty",
    ),
    with_strategies(
        "no strategy", STRATEGIES + "strategy = []", "strategy is empty", "[[strategy]]"
    ),
    with_strategies(
        "an unknown key of a strategy",
        strategies(("one", "A."), extra="calls = 2\n"),
        "unknown key 'calls'",
        "further_calls",
    ),
    with_strategies("a strategies file that is not TOML", "[", "is not TOML: line 1"),
    with_strategies(
        "an instruction of no strategy",
        strategies(
            ("one", "A."),
            extra='[[instruction]]\nstrategy = "two"\ncategory = "x"\ninstruction = "B."\n',
        ),
        "'two'",
    ),
]
MODELS_AND_LENGTHS = [
    files(
        "a tokenizer.json that is not JSON",
        engine("student", written("tokenizer.json", "{nope")),
        "student.tokenizer",
        "tokenizer.json",
        "not JSON",
    ),
    files(
        "an empty tokenizer.json",
        engine("student", written("tokenizer.json", "")),
        "student.tokenizer",
        "not JSON",
    ),
    files(
        "a tokenizer.json that is a list",
        engine("student", written("tokenizer.json", "[]")),
        "student.tokenizer",
        "a JSON object",
    ),
    files(
        "a tokenizer.json of nothing",
        engine("student", written("tokenizer.json", "{}")),
        "student.tokenizer",
        "cannot be loaded",
    ),
    files(
        "a tokenizer.json of another kind",
        engine("teacher", written("tokenizer.json", '{"model": {"type": "Nope"}}')),
        "teacher.tokenizer",
        "cannot be loaded",
    ),
    files(
        "a tokenizer.json cut in half",
        engine(
            "teacher",
            lambda f: (f / "tokenizer.json").write_bytes(
                (f / "tokenizer.json").read_bytes()[:2000]
            ),
        ),
        "teacher.tokenizer",
        "not JSON",
    ),
    files(
        "a tokenizer_config.json that is not JSON",
        engine("student", written("tokenizer_config.json", "x")),
        "tokenizer_config.json",
        "not JSON",
    ),
    files(
        "a tokenizer.json nested deeply",
        engine("student", written("tokenizer.json", "[" * 100_000)),
        "student.tokenizer",
        "not JSON",
    ),
    files(
        "a generation_config.json that is not JSON",
        engine("student", written("generation_config.json", "x")),
        "generation_config.json",
        "not JSON",
    ),
    files(
        "an eos_token_id that is text",
        engine("student", written("generation_config.json", '{"eos_token_id": "</s>"}')),
        "eos_token_id",
        "a whole number",
    ),
    files(
        "no tokenizer",
        engine(
            "student",
            removed(
                "tokenizer.json",
                "tokenizer_config.json",
                "chat_template.jinja",
                "generation_config.json",
            ),
        ),
        "student.tokenizer",
        "holds no tokenizer",
    ),
    files(
        "no chat template",
        engine("student", removed("chat_template.jinja")),
        "student.tokenizer",
        "no chat template",
    ),
    files(
        "an empty chat template",
        engine("student", written("chat_template.jinja", "")),
        "student.tokenizer",
        "template",
    ),
    files(
        "a template that does not compile",
        engine("student", written("chat_template.jinja", "{% for %}")),
        "student.tokenizer",
        "template",
    ),
    files(
        "a template that raises",
        engine(
            "teacher", written("chat_template.jinja", "{{ raise_exception('no system role') }}")
        ),
        "teacher.tokenizer",
        "no system role",
    ),
    files(
        "a template that drops a message",
        engine("student", written("chat_template.jinja", "hello")),
        "student.tokenizer",
        "drops",
    ),
    files(
        "a template that repeats a message",
        engine(
            "student",
            written(
                "chat_template.jinja",
                "{% for m in messages %}{{ m.content }}{{ m.content }}{% endfor %}",
            ),
        ),
        "student.tokenizer",
        "repeats",
    ),
    files(
        "a template with an unknown filter",
        engine("student", written("chat_template.jinja", "{{ messages | nope }}")),
        "student.tokenizer",
        "template",
    ),
    files(
        "a template that is not text",
        engine("student", lambda f: (f / "chat_template.jinja").write_bytes(b"\xff\xfe")),
        "student.tokenizer",
        "not UTF-8",
    ),
    sets(
        "scoring.max_tokens=4096",
        "scoring.retry_max_tokens is 8192 (if not set, twice scoring.max_tokens)",
        "lower scoring.retry_max_tokens and scoring.max_tokens to at most",
        "student.max_model_len",
    ),
    sets("scoring.retry_max_tokens=5000", "scoring.retry_max_tokens is 5000", "to at most"),
    sets(
        "rationales.max_tokens=4096", "rationales.max_tokens is 4096", "to at most", "teacher.max_"
    ),
    sets("evaluation.max_tokens=4090", "evaluation.max_tokens", "student.max_model_len"),
    sets("student.max_model_len=64", "scoring.retry_max_tokens is 128", "student.max_model_len"),
    sets("teacher.max_model_len=300", "rationales.max_tokens", "teacher.max_model_len"),
    Mistake(
        name="a judge with a short context",
        words=("judging.max_tokens", "judge.max_model_len"),
        sets=(
            "tasks.0.answer_type=open",
            "judge.engine=scripted",
            f"judge.tokenizer={MODELS / 'teacher'}",
            "judge.max_model_len=512",
        ),
    ),
    files(
        "a context longer than the model's",
        vllm("student", "student.max_model_len=600"),
        "student.max_model_len is 600",
        "512",
    ),
    files(
        "devices that do not divide the heads",
        vllm("student", "student.tensor_parallel_size=7"),
        "student.tensor_parallel_size is 7",
        "num_attention_heads",
    ),
    files(
        "more pipeline stages than layers",
        vllm("student", "student.pipeline_parallel_size=99"),
        "student.pipeline_parallel_size",
        "layers",
    ),
    files(
        "a batch larger than a step",
        vllm("student", "student.max_num_batched_tokens=64"),
        "max_num_batched_tokens is 64",
        "max_num_seqs",
    ),
    files(
        "no share of the memory",
        vllm("student", "student.gpu_memory_utilization=0"),
        "student.gpu_memory_utilization",
        "more than 0",
    ),
    files(
        "too little KV cache",
        vllm("student", "student.kv_cache_memory_bytes=5"),
        "student.kv_cache_memory_bytes",
        "at least",
    ),
    files("an env that is a list", vllm("student", "student.env=[]"), "student.env", "a table"),
    files(
        "an env with a number",
        vllm("student", "student.env.OMP_NUM_THREADS=98765"),
        "student.env",
        "text",
    ),
    files(
        "a scripted key in a model's section",
        vllm("student", "student.accuracy={}"),
        "student.accuracy",
        'goes with engine = "scripted"',
    ),
    files(
        "a model without config.json",
        vllm("student", change=removed("config.json")),
        "student.model",
        "no config.json",
    ),
    files(
        "a model's config.json that is not JSON",
        vllm("student", change=written("config.json", "{")),
        "student.model",
        "not JSON",
    ),
    files(
        "a model's config.json that is a list",
        vllm("student", change=written("config.json", "[]")),
        "student.model",
        "JSON object",
    ),
    files(
        "a model without weights",
        vllm(
            "student",
            "scoring.max_tokens=32",
            "evaluation.max_tokens=32",
            change=removed("model.safetensors"),
        ),
        "no .safetensors",
    ),
    files(
        "a model without a template",
        vllm("student", change=removed("chat_template.jinja")),
        "student.model",
        "no chat template",
    ),
]
COMMANDS = [
    Mistake(name="no config", words=("no file there",), command=("run", "nosuch.toml")),
    Mistake(name="a directory as a config", words=("is a directory",), command=("run", ".")),
    Mistake(name="a device as a config", words=("is a device",), command=("run", "/dev/zero")),
    Mistake(name="rows as a config", words=("is not TOML",), command=("run", "sums.jsonl")),
    Mistake(
        name="score without a tokenizer",
        words=("student.tokenizer",),
        command=("score", "run.toml"),
        sets=("student.tokenizer=nowhere",),
    ),
    Mistake(
        name="teach into somebody's directory",
        words=("no run wrote",),
        command=("teach", "run.toml"),
        sets=("run_dir=.",),
    ),
    Mistake(
        name="evaluate into somebody's directory",
        words=("no run wrote",),
        command=("evaluate", "run.toml"),
        sets=("run_dir=.",),
    ),
    Mistake(
        name="evaluate without held-out tasks",
        words=("[[evaluation.tasks]]",),
        command=("evaluate", "run.toml"),
        sets=("evaluation={}",),
    ),
    Mistake(
        name="evaluate a model that is not there",
        words=("scripted", "--model"),
        command=("evaluate", "run.toml", "--model", "nowhere"),
    ),
    Mistake(
        name="synthesise over somebody's file",
        words=("held_out.jsonl is there already", "another OUT"),
        command=("synthesise", "run.toml", "sums.jsonl", "held_out.jsonl"),
    ),
    Mistake(
        name="synthesise over the topics",
        words=("OUT is sums.jsonl, and so is TOPICS",),
        command=("synthesise", "run.toml", "sums.jsonl", "sums.jsonl"),
    ),
    Mistake(
        name="synthesise into somebody's directory",
        words=("no run wrote",),
        prepare=lambda folder: (
            put(folder, "topics.jsonl", '{"topic": "bread"}\n'),
            [],
        )[1],
        command=("synthesise", "run.toml", "topics.jsonl", "out.jsonl", "--run-dir", "."),
    ),
    Mistake(
        name="train over a model",
        words=("training.output", "student.tokenizer"),
        command=("train", "run.toml"),
        sets=(f"training.output={MODELS / 'student'}",),
    ),
    Mistake(
        name="a fork of nothing",
        words=("--fork: nowhere does not exist", "the directory of a run"),
        command=("run", "run.toml", "--fork", "nowhere"),
    ),
    Mistake(
        name="a plan of a run that no engine could answer",
        words=("scoring.retry_max_tokens is 8192",),
        command=("plan", "run.toml"),
        sets=("scoring.max_tokens=4096",),
    ),
]
MISTAKES = [*CLOSED, *PATHS, *COLUMNS, *TEXTS, *MODELS_AND_LENGTHS, *COMMANDS]


def walk() -> Iterator[tuple[Mistake, str, list[str]]]:
    """Every mistake with its report and what is wrong about that."""
    with tempfile.TemporaryDirectory(prefix="orca2-mistakes-") as name:
        for number, mistake in enumerate(MISTAKES):
            folder = Path(name) / str(number)
            folder.mkdir()
            printed, found = reported(mistake, folder)
            yield mistake, printed.replace(str(folder), "FOLDER"), found


if __name__ == "__main__":
    started, wrong = time.monotonic(), 0
    for mistake, printed, found in walk():
        wrong += bool(found)
        print(f"{'WRONG' if found else 'right'} {mistake.name}\n      {printed}", flush=True)
        for line in found:
            print(f"      {line}")
    print(f"{len(MISTAKES)} mistakes, {wrong} wrong, {time.monotonic() - started:.0f} s")
    sys.exit(1 if wrong else 0)
