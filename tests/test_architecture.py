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


# Room -> rooms that its files may import, in the order of the path (a room also imports itself).
# A room is a folder, or a file in the root of a package. `*` stands for all rooms above it here.
MAY_IMPORT = {
    "orca2_gen": {
        "offline": "",
        "mistakes": "",
        "records": "",
        "run_directory": "records",
        "grading": "records",
        "exit_codes": "run_directory",
        "strategies": "mistakes records run_directory",
        "chat": "records run_directory",
        "prompts": "records grading strategies",
        "quoting": "",
        "tasks": "mistakes records grading run_directory",
        "selection": "records run_directory strategies",
        "foresight": "records run_directory strategies selection",
        "config": "offline mistakes records run_directory strategies chat tasks selection",
        "engine": "records config",
        "calls": "records strategies chat prompts engine",
        "endings": "records grading chat engine calls",
        "judging": "records grading chat engine calls",
        "lengths": "records grading strategies chat prompts config endings judging",
        "scoring": "records grading strategies chat engine calls endings",
        "rationales": "records grading strategies chat prompts quoting engine calls",
        "erasure": "records strategies chat prompts",
        "dataset": "records run_directory strategies chat quoting engine",
        "scripted_engine": "records grading chat engine judging",
        "synthesis": "records run_directory grading config",
        "preflight": (
            "mistakes records run_directory strategies chat prompts tasks selection config lengths "
            "dataset"
        ),
        "preparation": "run_directory chat preflight",
        "doctor": "offline",
        "draft": "records run_directory tasks doctor",
        "provenance": "*",
        "evaluations": "*",
        "report": "*",
        "preview": "*",
        "estimates": "*",
        "console": "*",
        "microworld": "*",
        "commands": "*",
        "notebook": "*",
        "cli": "*",
        "__main__": "cli",
    },
    "ray_jobs": {
        "cluster": "",
        "nodes": "cluster",
        "dispatch": "",
        "examined_nodes": "cluster dispatch",
        "engines": "cluster dispatch",
        "run": "cluster dispatch engines",
        "model_engines": "cluster dispatch engines run",
        "stages": "cluster dispatch engines run model_engines",
        "units": "dispatch run",
        "file_stages": "dispatch",
        "decontamination": "dispatch run",
        "overlapped": "cluster dispatch engines run model_engines stages units file_stages",
        "pipeline": "dispatch run stages units file_stages decontamination overlapped",
        "evaluation": "dispatch run stages pipeline units",
        "regrading": "*",
        "submit": "",
        "demo": "*",
    },
    "train": {"train": ""},
    "benchmarks": {
        "marked_answers": "",
        "throughput": "",
        "selection": "",
        "pairs": "",
        "planted_copies": "",
        "origin_files": "",
        "foreign": "",
        "ablations": "",
        "decontamination": "planted_copies",
        "dispatch_scale": "",
        "generation_throughput": "throughput",
        "assembly": "throughput",
        "headline": "throughput assembly",
        "host": "throughput generation_throughput",
        "figures_overhead": "",
        "first_light": "host",
        "scripted": "",
        "foresight": "scripted",
        "grading_speed": "marked_answers",
        "real_models": "pairs",
        "selection_savings": "selection",
        "shard_bandwidth": "origin_files",
        "thinking_microworld": "",
        "trainers": "foreign",
        "training": "foreign",
        "training_memory": "",
        "training_throughput": "training",
        "work_ahead": "selection",
    },
}
FLAT = ("train",)
"""Packages that are one room."""
# Package -> packages that it may import anywhere; the commands of orca2_gen are a rule of their
# own.
MAY_REACH = {
    "orca2_gen": "orca2_gen",
    "ray_jobs": "orca2_gen ray_jobs train",
    "train": "orca2_gen train",
    "benchmarks": "orca2_gen ray_jobs train benchmarks tests",
}


def room_of(path: Path) -> str:
    """The folder of a file inside its package, or the file itself where it lies in the root."""
    package, *inside = path.relative_to(ROOT).with_suffix("").parts
    return package if package in FLAT else inside[0]


def room_imports(path: Path) -> Iterator[tuple[str, str]]:
    """(package, room) of each module of ours that a file imports, inside functions too."""
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.ImportFrom) and node.module:
            for name in node.names:
                yield from _room(f"{node.module}.{name.name}")
        elif isinstance(node, ast.Import):
            for alias in node.names:
                yield from _room(alias.name)


def _room(module: str) -> Iterator[tuple[str, str]]:
    package, *inside = module.split(".")
    if package in FLAT:
        yield package, package
    elif package in MAY_IMPORT and inside and room_exists(package, inside[0]):
        yield package, inside[0]


def room_exists(package: str, name: str) -> bool:
    return (ROOT / package / name).is_dir() or (ROOT / package / f"{name}.py").is_file()


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


def test_only_commands_reach_ray_jobs_and_train_and_only_inside_functions() -> None:
    for path in in_package("orca2_gen"):
        tree = parse(path)
        reached = imported(list(ast.walk(tree))) & {"ray_jobs", "train"}
        assert not reached or room_of(path) in ("cli", "commands", "notebook"), path
        assert not imported(at_import(tree)) & {"ray_jobs", "train"}, path


def test_every_room_stands_in_the_table_and_every_line_of_it_is_a_room() -> None:
    found = {name: {room_of(path) for path in in_package(name)} for name in MAY_IMPORT}
    assert {name: rooms - {"__init__"} for name, rooms in found.items()} == {
        name: set(rooms) for name, rooms in MAY_IMPORT.items()
    }


def test_a_room_imports_only_what_the_table_allows(source: Path) -> None:
    package, room = source.relative_to(ROOT).parts[0], room_of(source)
    if room == "__init__":
        return
    rooms = MAY_IMPORT[package]
    above = list(rooms)[: list(rooms).index(room)]
    allowed = {room, *(above if rooms[room] == "*" else rooms[room].split())}
    for reached, name in room_imports(source):
        if reached == package:
            assert name in allowed, f"{room} imports {name}; the table allows {sorted(allowed)}"
        elif room not in ("cli", "commands", "notebook"):
            assert reached in MAY_REACH[package].split(), f"{source} imports {reached}"


def test_the_table_lists_a_room_below_all_that_it_imports() -> None:
    for rooms in MAY_IMPORT.values():
        seen: set[str] = set()
        for room, allowed in rooms.items():
            assert allowed == "*" or set(allowed.split()) <= seen, room
            seen.add(room)


def test_only_commands_import_regrading_and_the_pipeline_never_does() -> None:
    for path in SOURCES:
        if ("ray_jobs", "regrading") in set(room_imports(path)):
            assert room_of(path) in ("regrading", "cli", "commands"), path


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


def unsafe_reads(path: Path) -> list[str]:
    """The places of a file that could run what a stranger wrote into another."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names]
            modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else names
            found += [name for name in modules if name.split(".")[0] in UNPICKLERS]
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        given = {each.arg: ast.unparse(each.value) for each in node.keywords}
        unsafe = (
            (called == "torch.load" and given.get("weights_only") != "True")
            or given.get("allow_pickle", "False") != "False"
            or given.get("trust_remote_code", "False") != "False"
            or (
                called.endswith(("ForCausalLM.from_pretrained", "AutoModel.from_pretrained"))
                and given.get("use_safetensors") != "True"
            )
        )
        if unsafe:
            found.append(f"{called} in line {node.lineno}")
    return found


UNPICKLERS = ("pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve")


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_file_that_is_read_can_run(path: Path) -> None:
    assert unsafe_reads(path) == []
