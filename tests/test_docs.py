"""README.md, CONTRIBUTING.md and docs/ name only what exists: links, anchors, paths, modules, make
targets, commands of orca2 and their options.

Links are sought outside of code, all else in code, inline or fenced. A word in code is a path of
the repository if it has a slash and either begins with a name in the repository's root or ends with
a suffix of its files. A path that begins in ELSEWHERE or in capitals (RUN/ledger.jsonl) is the
reader's own.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from orca2_gen.cli import cli

ROOT = Path(__file__).parents[1]
FILES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
ELSEWHERE = {"runs", "models", "data", "wheelhouse", ".venv"}
SUFFIXES = (".py", ".toml", ".md", ".yaml", ".jsonl", ".json", ".txt")
FENCE = re.compile(r"^( *)```\w*\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"(?<!`)`((?:(?!\n\n)[^`])+)`(?!`)")
PATH = re.compile(r"[\w.*-]+(?:/[\w.*-]+)*/?")
TARGETS = re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE)
OPTIONS = {n: {o for p in command.params for o in p.opts} for n, command in cli.commands.items()}


def pieces(text: str) -> Iterator[str]:
    """The code in a text, each piece on one line: lines of fenced blocks, without their comments,
    and inline spans.
    """
    for fence in FENCE.finditer(text):
        for line in fence[2].replace("\\\n", " ").splitlines():
            yield re.sub(r"(^|\s)#.*", "", line)
    for span in INLINE.finditer(FENCE.sub("", text)):
        yield " ".join(span[1].split())


def anchors(file: Path) -> set[str]:
    """The anchors that GitHub makes of a file's headings."""
    headings = re.findall(r"^#{1,6} (.+)$", FENCE.sub("", file.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(text: str, file: Path) -> Iterator[str]:
    for target in re.findall(r"\]\(([^)\s]+)\)", INLINE.sub("", FENCE.sub("", text))):
        name, _, anchor = target.partition("#")
        linked = file.parent / name if name else file
        if re.match(r"[a-z]+:", target):
            continue
        if not linked.exists():
            yield f"link to {target}"
        elif anchor and anchor not in anchors(linked):
            yield f"anchor of {target}"


def is_path(word: str) -> bool:
    first = word.partition("/")[0]
    if "/" not in word or not PATH.fullmatch(word) or first in ELSEWHERE or first.isupper():
        return False
    return (ROOT / first).exists() or word.endswith(SUFFIXES)


def absent_files(piece: str) -> Iterator[str]:
    for word in re.split(r"[\s=,;:()\"']+", piece):
        if is_path(word):
            found = list(ROOT.glob(word.rstrip("/")))
            if not found or (word.endswith("/") and not found[0].is_dir()):
                yield f"path {word}"
    for module in re.findall(r"-m (\w+(?:\.\w+)+)", piece):
        if not (ROOT / module.replace(".", "/")).with_suffix(".py").is_file():
            yield f"module {module}"


def unknown_commands(piece: str) -> Iterator[str]:
    yield from (f"make {t}" for t in re.findall(r"\bmake ([a-z][\w-]*)", piece) if t not in TARGETS)
    for part in re.split(r"&&|[;|]", piece):
        given = re.findall(r"(?<!\S)--[a-z][\w-]*", part)
        called = re.search(r"\borca2 ([a-z][\w-]*)", part)
        if called and called[1] not in OPTIONS:
            yield f"orca2 {called[1]}"
        elif called:
            yield from (f"orca2 {called[1]} {o}" for o in given if o not in OPTIONS[called[1]])
        elif part.startswith("--"):  # an option that is named alone is one of some command's
            yield from (o for o in given if not any(o in known for known in OPTIONS.values()))


def faults(text: str, file: Path = ROOT / "README.md") -> list[str]:
    """Everything that a text names and that does not exist."""
    found = [*broken_links(text, file), *re.findall(r"@@\w+@@", text)]
    for piece in pieces(text):
        found += [*absent_files(piece), *unknown_commands(piece)]
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_everything_that_a_page_names_exists(file: Path) -> None:
    found = faults(file.read_text(encoding="ascii"), file)
    assert not found, "\n".join(found)


def test_the_readme_is_one_page() -> None:
    assert (ROOT / "README.md").stat().st_size <= 10_240


def test_every_page_of_the_documentation_is_linked_from_the_readme() -> None:
    text = (ROOT / "README.md").read_text()
    assert [file.name for file in FILES[2:] if f"](docs/{file.name})" not in text] == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[a](docs/nothing.md)", "link to docs/nothing.md"),
        ("[`a`](README.md#nothing-here)", "anchor of README.md#nothing-here"),
        ("[a](#nothing-here)", "anchor of #nothing-here"),
        ("see `orca2_gen/nothing.py`", "path orca2_gen/nothing.py"),
        ("see `nothing/here.toml`", "path nothing/here.toml"),
        ("see `tests/*/nothing_*.py`", "path tests/*/nothing_*.py"),
        ("see `Makefile/`", "path Makefile/"),
        ("```sh\norca2 run train/nothing.toml   # why\n```", "path train/nothing.toml"),
        ("`python -m benchmarks.nothing`", "module benchmarks.nothing"),
        ("`make lint`, then `make\nnothing`", "make nothing"),
        ("  ```sh\n  make nothing\n  ```", "make nothing"),
        ("`orca2 nothing CONFIG`", "orca2 nothing"),
        ("```sh\norca2 run CONFIG \\\n    --nothing\n```", "orca2 run --nothing"),
        ("`orca2 status RUN && orca2 verify --fork RUN`", "orca2 verify --fork"),
        ("`--nothing` does nothing", "--nothing"),
        ("it takes @@MINUTES@@", "@@MINUTES@@"),
    ],
)
def test_what_does_not_exist_is_found(text: str, fault: str) -> None:
    assert fault in faults(text)


def test_what_exists_or_is_the_readers_own_is_no_fault() -> None:
    text = """[a](README.md#licence) [b](docs/data.md#task-formats) [c](https://x.org/y)
`[d](nothing.md)` `RUN/ledger.jsonl` `runs/a.toml` `ray start --head` `x/y` `/dev/shm`
`orca2 run CONFIG --set a=models/b.json --fork OLD` `.venv/bin/orca2 verify RUN` orca2 nothing
`tests/faults/*.py` `torchrun --nproc-per-node 8 -m train.sft CONFIG` `make setup EXTRA=gpu`
"""
    assert faults(text) == []


def messages() -> set[str]:
    """The texts in the source but for docstrings, with `...` in place of what differs."""
    found = set()
    for package in ("orca2_gen", "ray_jobs", "train"):
        for path in (ROOT / package).rglob("*.py"):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            said = {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Expr)}
            for node in ast.walk(tree):
                if id(node) in said:
                    continue
                if isinstance(node, ast.JoinedStr):
                    parts = [p.value if isinstance(p, ast.Constant) else "..." for p in node.values]
                    found.add("".join(map(str, parts)))
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found.add(node.value)
    return found


def test_every_message_that_is_explained_is_one_that_we_print() -> None:
    text = (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([^`]+)`", text, re.MULTILINE)
    known = messages()
    assert len(rows) >= 15
    for row in rows:
        assert any(row in message for message in known), row
