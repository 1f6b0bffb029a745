"""A driver's life without Ray, ended at every call that reaches the disk (fault 17).

`python -m ... all FOLDER` does this to a run, `dataset FOLDER TOKENIZER` to the writing of a
dataset over an older one, `fork FOLDER` to a fork; `drive RUN` and `resume RUN` are one driver's
life alone.

Prints the number of points. At each point a child process ends, before the call or after it, and a
second driver must make the run whole without redoing committed units.
"""

from __future__ import annotations

import itertools
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from orca2_gen.chat import load_chat
from orca2_gen.provenance.fork import fork_run
from orca2_gen.provenance.recorded import record_stages
from orca2_gen.records import Rejection
from orca2_gen.run_directory.arrow_files import read_records
from orca2_gen.run_directory.ledger import Ledger, read_ledger, write_summary
from orca2_gen.run_directory.lock import run_lock
from orca2_gen.run_directory.units import Receipt, UnitName, write_unit
from orca2_gen.run_directory.unlisted import set_aside_unlisted, unlisted_files
from orca2_gen.strategies import load_strategies
from tests.dataset.test_write import build

CALLS = ("fsync", "replace", "rename", "link", "unlink", "truncate", "ftruncate", "mkdir")
"""Functions of `os` with which the commit protocol changes the disk."""
UNITS = [f"sums-{n:06d}" for n in range(5)]
STAGES = {"problems": {"tasks": "t"}}
KEYS = {"problems": "k"}
STRATEGIES = load_strategies(None)
DIED = 9


def drive(run_dir: Path, driver: str) -> list[str]:
    """The units that this driver makes until the run is done."""
    made = []
    with run_lock(run_dir):
        ledger = read_ledger(run_dir, writable=True)
        record_stages(ledger, {"run_dir": "r"}, STAGES, KEYS, STRATEGIES)
        ledger.write_tip()
        set_aside_unlisted(ledger)
        receipts: list[Receipt] = []
        for unit in UNITS:
            if ("problems", unit) in ledger.units:
                continue
            name = UnitName(stage="problems", stage_key="k", unit=unit, driver=driver)
            receipts.append(write_unit(run_dir, name, [row(unit)], Rejection, [row(unit)]))
            made.append(unit)
            if len(receipts) == 2:
                ledger.commit(receipts)
                receipts = []
        ledger.commit(receipts)
        ledger.write_tip()
        write_summary(run_dir, "done.json", {"units": len(UNITS)})
    return made


def row(unit: str) -> Rejection:
    return Rejection(problem_id=unit, stage="problems", reason="r", detail="d")


def die_at(point: int, *, after: bool) -> None:
    """Ends this process at its `point`-th call that reaches the disk."""
    count = itertools.count()

    def dying(call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **keywords: Any) -> Any:
            if next(count) != point:
                return call(*arguments, **keywords)
            try:
                if after:
                    call(*arguments, **keywords)
            finally:
                os._exit(DIED)

        return wrapped

    for name in CALLS:
        setattr(os, name, dying(getattr(os, name)))


def check(ledger: Ledger, before: dict[tuple[str, str], Receipt], made: list[str]) -> None:
    """Asserts that the second driver made exactly the missing units, and that all is whole."""
    assert sorted([unit for _, unit in before] + made) == UNITS
    assert all(ledger.units[key] == receipt for key, receipt in before.items())
    found = [
        row.problem_id
        for receipt in ledger.committed("problems")
        for entry in receipt.files
        for row in read_records(ledger.run_dir, entry, Rejection)
    ]
    assert sorted(found) == sorted(UNITS * 2)
    assert unlisted_files(ledger) == []
    names = {path.name for path in ledger.run_dir.iterdir()}
    wanted = {"config.json", "ledger.jsonl", "ledger.tip.json", "problems", "rejections"}
    assert names - {"set-aside"} == {*wanted, "done.json"}


def end_everywhere(
    folders: Iterator[Path], live: Callable[[Path], object], go_on: Callable[[Path], object]
) -> int:
    """The number of points at which a driver ended; after each, another goes on in its folder."""
    for point in itertools.count():
        is_over = False
        for after in (False, True):
            run_dir = next(folders)
            child = os.fork()
            if child == 0:
                die_at(point, after=after)
                live(run_dir)
                os._exit(0)
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            assert code in (0, DIED), code
            is_over = code == 0
            go_on(run_dir)
        if is_over:
            return point
    raise AssertionError("unreachable")


def drivers(folder: Path) -> int:
    folders = (folder / str(number) for number in itertools.count())
    return end_everywhere(folders, lambda run_dir: drive(run_dir, "aa"), resume)


def dataset(folder: Path, tokenizer: str) -> int:
    """The number of points in writing a dataset over another with more shards."""
    chat, strategies = load_chat(tokenizer), load_strategies(None)

    def write(run_dir: Path) -> None:
        build(run_dir, chat, strategies, 7, per_shard=3)

    build(folder / "older", chat, strategies, 7, per_shard=2)
    older = files_of(folder / "older")
    write(folder / "wanted")
    wanted = files_of(folder / "wanted")
    assert older.keys() - wanted.keys() and wanted["manifest.json"] != older["manifest.json"]

    def go_on(run_dir: Path) -> None:
        found = files_of(run_dir)
        if manifest := found.get("manifest.json"):  # declared: no file is missing or surplus
            assert found == (older if manifest == older["manifest.json"] else wanted)
        write(run_dir)
        assert files_of(run_dir) == wanted

    folders = (
        Path(shutil.copytree(folder / "older", folder / str(number)))
        for number in itertools.count()
    )
    return end_everywhere(folders, write, go_on)


def forks(folder: Path) -> int:
    """The number of points in taking over a run, after each of which the same fork goes on."""
    source = folder / "source"
    drive(source, "aa")

    def fork(run_dir: Path) -> None:
        with run_lock(run_dir):
            ledger = read_ledger(run_dir, writable=True)
            fork_run(source, ledger, KEYS)
            ledger.write_tip()

    def go_on(run_dir: Path) -> None:
        fork(run_dir)
        ledger = read_ledger(run_dir, writable=True)
        assert ledger.units == read_ledger(source).units
        set_aside_unlisted(ledger)
        assert not (run_dir / "set-aside").exists()

    return end_everywhere((folder / str(n) for n in itertools.count()), fork, go_on)


def files_of(run_dir: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (run_dir / "dataset").iterdir()}


def resume(run_dir: Path) -> str:
    """`whole`, after a second driver has finished the first one's run."""
    before = dict(read_ledger(run_dir).units)
    made = drive(run_dir, "bb")
    check(read_ledger(run_dir), before, made)
    return "whole"


if __name__ == "__main__":
    what = {"all": drivers, "drive": lambda run_dir: drive(run_dir, "aa"), "resume": resume}
    what |= {"dataset": dataset, "fork": forks}
    print(what[sys.argv[1]](Path(sys.argv[2]), *sys.argv[3:]))
