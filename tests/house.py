"""The sizes of the house, as its plan counts them: rooms, floors and arrows between rooms.

A room is what one sees in an opened folder: a file, but for dunder files, or a folder. An arrow
leads from a room to one that it imports, anywhere in its files; floors are the longest chain.
"""

from __future__ import annotations

import ast
import functools
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("orca2_gen", "ray_jobs", "train", "benchmarks")
Room = Callable[[str], str | None]
"""A module's name -> the room it lies in; None outside of the folder."""


def sizes() -> dict[str, str]:
    """What is counted -> rooms, floors and arrows, or a number."""
    modules = {module: path for name in PACKAGES for module, path in modules_of(ROOT / name)}
    seen = {name: rooms_seen(ROOT / name) for name in PACKAGES}

    def row(num_rooms: int, room: Room) -> str:
        arrows = arrows_between(modules, room)
        return f"{num_rooms} / {floors(arrows)} / {sum(map(len, arrows.values()))}"

    return {
        "rooms from the top (orca2_gen opened) / floors / arrows": row(
            seen["orca2_gen"] + len(["ray_jobs", "train", "benchmarks", "tests"]), room_from_top
        ),
        ".py files in the root of orca2_gen": str(len([*(ROOT / "orca2_gen").glob("*.py")])),
        **{
            f"{name}: rooms / floors / arrows": row(seen[name], functools.partial(room_in, name))
            for name in PACKAGES[:2]
        },
        "public names at the top of more than one file": str(num_shared_names(modules)),
    }


def modules_of(package: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(package.rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        yield name.removesuffix(".__init__"), path


def rooms_seen(folder: Path) -> int:
    return sum(
        path.is_dir() or path.suffix == ".py" for path in folder.iterdir() if path.name[:2] != "__"
    )


def room_from_top(module: str) -> str | None:
    return room_in("orca2_gen", module) or module.partition(".")[0]


def room_in(folder: str, module: str) -> str | None:
    names = module.split(".")
    return names[1] if names[0] == folder and len(names) > 1 else None


def arrows_between(modules: dict[str, Path], room: Room) -> dict[str, set[str]]:
    """Room -> the rooms that it imports."""
    found: dict[str, set[str]] = {}
    for module, path in modules.items():
        if module not in PACKAGES and (own := room(module)) is not None:
            others = {room(name) for name in imported(path, modules) if name not in PACKAGES}
            found.setdefault(own, set()).update(others - {own, None})  # type: ignore[arg-type]
    return found


def imported(path: Path, modules: dict[str, Path]) -> Iterator[str]:
    """Yields each of these modules that a file imports, as often as it does."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom) and node.module in modules:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in modules else node.module for name in names)


def floors(arrows: dict[str, set[str]]) -> int:
    @functools.cache
    def below(room: str) -> int:
        return 1 + max(map(below, arrows.get(room, ())), default=0)

    return max(map(below, arrows))


def num_shared_names(modules: dict[str, Path]) -> int:
    """How many public names several files define at their top; each program has its own `main`."""
    files = Counter(name for path in modules.values() for name in {*top_names(path)})
    shared = [name for name, num in files.items() if num > 1 and not name.startswith("_")]
    return len(shared) - ("main" in shared)


def top_names(path: Path) -> Iterator[str]:
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found = (part for target in targets for part in ast.walk(target))
            yield from (part.id for part in found if isinstance(part, ast.Name))
