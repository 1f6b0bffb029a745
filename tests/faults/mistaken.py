"""A config with one mistake, and how `orca2` reports it: one plain line, nothing written."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from orca2_gen.cli import main
from orca2_gen.run_directory.digests import TOKENIZER_FILES

MODELS = Path(__file__).parents[2] / "orca2_gen" / "microworld"
BASE = """
run_dir = "{folder}/run"
rows_per_unit = 8
[[tasks]]
name = "sums"
format = "jsonl"
path = "sums.jsonl"
answer_type = "numeric"
[[tasks]]
name = "letters"
format = "jsonl"
path = "letters.jsonl"
[student]
engine = "scripted"
tokenizer = "{models}/student"
accuracy = {{ direct_answer = 0.2, step_by_step = 0.7 }}
[teacher]
engine = "scripted"
tokenizer = "{models}/teacher"
[selection]
block_size = 4
[scoring]
max_tokens = 64
[training]
num_steps = 2
[evaluation]
max_tokens = 64
[[evaluation.tasks]]
name = "held_out"
format = "jsonl"
path = "held_out.jsonl"
split = "test"
"""

Prepare = Callable[[Path], Sequence[str] | None]
"""Makes files in the config's folder, or changes run.toml there, and may return settings."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Mistake:
    """One mistake in a config or in the files that it names."""

    name: str
    words: tuple[str, ...]
    """What the line must hold."""
    sets: tuple[str, ...] = ()
    """Values of --set."""
    prepare: Prepare | None = None
    edits: Mapping[str, str] = field(default_factory=dict)
    """Text of run.toml -> its replacement."""
    command: tuple[str, ...] = ("run", "run.toml")
    code: int = 2


def sets(assignment: str, *words: str) -> Mistake:
    """A mistake that --set makes."""
    shown = assignment if len(assignment) < 200 else f"{assignment[:40]} ({len(assignment)})"
    return Mistake(name=f"--set {shown}", words=words, sets=(assignment,))


def toml(name: str, edits: Mapping[str, str], *words: str) -> Mistake:
    """A mistake in the text of the file."""
    return Mistake(name=name, words=words, edits=edits)


def files(name: str, prepare: Prepare, *words: str) -> Mistake:
    """A mistake in the files beside the config."""
    return Mistake(name=name, words=words, prepare=prepare)


def engine(role: str, prepare: Callable[[Path], object]) -> Prepare:
    """A scripted engine with a copy of a tokenizer that `prepare` changes."""

    def make(folder: Path) -> Sequence[str]:
        prepare(copy_tokenizer(folder / role))
        return [f"{role}.tokenizer={folder / role}"]

    return make


def vllm(role: str, *settings: str, change: Callable[[Path], object] | None = None) -> Prepare:
    """A vLLM engine with a copy of a model that `change` changes."""

    def make(folder: Path) -> Sequence[str]:
        model = copy_model(folder / role)
        if change is not None:
            change(model)
        body = {"model": str(model), "max_model_len": 512}
        table = ", ".join(f"{key} = {json.dumps(value)}" for key, value in body.items())
        return [f"{role}={{ {table} }}", *settings]

    return make


def written(name: str, body: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(body)


def removed(*names: str) -> Callable[[Path], object]:
    return lambda folder: [(folder / name).unlink() for name in names]


def outcome(mistake: Mistake, folder: Path) -> tuple[int, str, list[str]]:
    """(exit code, what was printed, paths that were made or removed) of a mistake's call."""
    text = BASE.format(folder=folder, models=MODELS)
    for old, new in mistake.edits.items():
        assert old in text, f"{mistake.name}: {old!r} is not in the config"
        text = text.replace(old, new)
    write_rows(folder)
    (folder / "run.toml").write_bytes(text.encode(errors="surrogateescape"))
    more = (mistake.prepare(folder) if mistake.prepare is not None else None) or ()
    arguments = [*mistake.command]
    for assignment in (*more, *mistake.sets):
        arguments += ["--set", assignment.replace("FOLDER", str(folder))]
    before = sorted(map(str, folder.rglob("*")))
    code, printed = called(folder, arguments)
    after = sorted(map(str, folder.rglob("*")))
    return code, printed, sorted(set(before) ^ set(after))


def called(folder: Path, arguments: Sequence[str]) -> tuple[int, str]:
    """(exit code, output) of `orca2` in a folder."""
    argv, there, ended = sys.argv, Path.cwd(), signal.getsignal(signal.SIGTERM)
    out = io.StringIO()
    sys.argv = ["orca2", *arguments]
    os.chdir(folder)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            main()
        code = 0
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        sys.argv = argv
        os.chdir(there)
        signal.signal(signal.SIGTERM, ended)
    return code, out.getvalue()


def reported(mistake: Mistake, folder: Path) -> tuple[str, list[str]]:
    """(what was printed, what is wrong with the way in which a mistake is reported)."""
    code, printed, changed = outcome(mistake, folder)
    lines = printed.splitlines()
    found = []
    if code != mistake.code:
        found.append(f"exit code {code}, expected {mistake.code}")
    if len(lines) != 1 or not printed.startswith("Error: "):
        found.append(f"{len(lines)} lines, expected one")
    found += [f"{word!r} is not in it" for word in mistake.words if word not in printed]
    found += [f"{word!r} is jargon" for word in JARGON if word in printed]
    found += [f"{path} was made or removed" for path in changed]
    return printed.strip(), [f"{each}: {printed.strip()[:500]}" for each in found]


JARGON = (
    "pydantic",
    "Input should",
    "tuple",
    "validation",
    "Traceback",
    "JSONDecodeError",
    " dict",
    "pattern",
    "NoneType",
    "Errno",
    "Expecting value: line",
)


def write_rows(folder: Path) -> None:
    """Writes three task files, one of which maps columns."""
    for name, first in (("sums", 0), ("letters", 100), ("held_out", 200)):
        rows = [
            {"id": str(n), "question": f"What is {n} + 1?", "answer": str(n + 1), "label": 1}
            for n in range(first, first + 4)
        ]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def copy_tokenizer(target: Path) -> Path:
    """A copy of the student's tokenizer files."""
    target.mkdir()
    for name in TOKENIZER_FILES:
        if (MODELS / "student" / name).is_file():
            shutil.copy(MODELS / "student" / name, target / name)
    return target


def copy_model(target: Path) -> Path:
    """A copy of the student that takes no room but for what a test changes."""
    copy_tokenizer(target)
    shutil.copy(MODELS / "student" / "config.json", target / "config.json")
    (target / "model.safetensors").symlink_to(MODELS / "student" / "model.safetensors")
    return target
