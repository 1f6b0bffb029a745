"""The design's rules, read from the source."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = [
    path
    for package in ("orca2_gen", "ray_jobs", "train", "benchmarks")
    for path in sorted((ROOT / package).rglob("*.py"))
]
BANNED_WORDS = frozenset(
    [
        "util",
        "utils",
        "helper",
        "helpers",
        "manager",
        "managers",
        "handler",
        "handlers",
        "wrapper",
        "wrappers",
        "factory",
        "factories",
        "mixin",
        "mixins",
        "common",
        "misc",
        "base",
        "core",
    ]
)


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imported(nodes: Iterator[ast.AST] | list[ast.AST]) -> set[str]:
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found


def at_import(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node that runs when the module is imported, without what only type checkers read."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            continue
        yield child
        yield from at_import(child)


def words(name: str) -> set[str]:
    return set(re.findall(r"[a-z]+", re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name).lower()))


def in_package(name: str) -> list[Path]:
    return [path for path in SOURCES if path.relative_to(ROOT).parts[0] == name]


@pytest.fixture(params=SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def source(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def test_orca2_gen_needs_no_ray_vllm_or_torch_to_be_imported() -> None:
    for path in in_package("orca2_gen"):
        assert not imported(at_import(parse(path))) & {"ray", "vllm", "torch"}, path


def test_only_the_cli_reaches_ray_jobs_and_train_and_only_inside_its_commands() -> None:
    for path in in_package("orca2_gen"):
        tree = parse(path)
        reached = imported(list(ast.walk(tree))) & {"ray_jobs", "train"}
        assert not reached or path.name in ("cli.py", "commands/cluster.py"), path
        assert not imported(at_import(tree)) & {"ray_jobs", "train"}, path


def test_train_never_reaches_ray_jobs() -> None:
    for path in in_package("train"):
        assert not imported(list(ast.walk(parse(path)))) & {"ray_jobs", "ray", "vllm"}, path


def test_no_file_is_longer_than_300_lines(source: Path) -> None:
    assert len(source.read_text(encoding="utf-8").splitlines()) <= 300


def test_no_function_is_longer_than_60_lines(source: Path) -> None:
    limit = 120 if source.relative_to(ROOT).parts[0] == "train" else 60
    for node in ast.walk(parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno + 1 <= limit, node.name


def test_nothing_has_a_name_that_says_nothing(source: Path) -> None:
    names = [source.stem, *source.relative_to(ROOT).parts[:-1]]
    names += [
        node.name
        for node in ast.walk(parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    ]
    assert not [name for name in names if words(name) & BANNED_WORDS]


def test_every_source_is_ascii(source: Path) -> None:
    assert source.read_bytes().isascii()


def test_no_class_has_more_than_one_ancestor_of_ours() -> None:
    ours: dict[str, list[str]] = {}
    for path in SOURCES:
        for node in ast.walk(parse(path)):
            if isinstance(node, ast.ClassDef):
                ours[node.name] = [ast.unparse(b).rpartition(".")[2] for b in node.bases]

    def ancestors(name: str) -> set[str]:
        return {a for b in ours.get(name, []) if b in ours for a in {b, *ancestors(b)}}

    assert {name: found for name in ours if len(found := ancestors(name)) > 1} == {}


def test_the_word_search_knows_words_from_parts_of_words() -> None:
    assert words("QueueManager") & BANNED_WORDS
    assert words("_read_common") & BANNED_WORDS
    assert not words("database_scores") & BANNED_WORDS
