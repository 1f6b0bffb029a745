"""Copies among many questions: how fast they are found, in how much memory, and how many of them.

    python -m benchmarks.decontamination [--questions 1000000] [--data DIR]

Questions are generated. Exact copies in other forms, near-duplicates (one word in ten changed) and
held-out questions under other names are planted among them, and Ray tasks on two cores find them.
With `--data`, DIR/gsm8k_test.jsonl is also hidden among DIR/gsm8k_train.jsonl, under other names
and in other cases, and the rows are counted that the files DIR/agieval_*.jsonl would lose if
near-duplicates were removed. The last line is one JSON document.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import ray
from rich.console import Console
from rich.table import Table

from benchmarks.planted_copies import (
    disguised,
    generated_questions,
    one_in_ten_changed,
    renamed,
    vocabulary,
)
from orca2_gen.tasks.comparison import Comparison, compare
from orca2_gen.tasks.copies import matches_file
from orca2_gen.tasks.duplicates import TaskFingerprints
from orca2_gen.tasks.fingerprints import Share, fingerprints, write_fingerprints
from orca2_gen.tasks.matches import CONTAMINATED, DUPLICATE, NEAR, Match, read_matches
from orca2_gen.tasks.source import TaskSource
from ray_jobs.decontamination import remote_results

CORES = 2
PLANTED_SHARE = 0.01
"""Share of all questions that is planted, of each kind of copy."""
KINDS = {"exact": DUPLICATE, "near": NEAR, "renamed": CONTAMINATED}
PASSAGES = ("lsat-ar", "lsat-lr", "lsat-rc", "sat-en", "sat-math", "logiqa-en")


class Peak:
    """The most memory that this process and all below it have held together, in MB.

    Pages that several of them share count for each.
    """

    def __init__(self) -> None:
        """Holds nothing yet."""
        self.mb = 0.0

    @contextmanager
    def watched(self) -> Iterator[None]:
        """A context in which memory is looked at, twice a second."""
        is_over = threading.Event()
        watcher = threading.Thread(target=self._watch, args=(is_over,), daemon=True)
        watcher.start()
        try:
            yield
        finally:
            is_over.set()
            watcher.join()

    def _watch(self, is_over: threading.Event) -> None:
        while not is_over.wait(0.5):
            num_bytes = 0
            for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
                with suppress(psutil.Error):
                    num_bytes += process.memory_info().rss
            self.mb = max(self.mb, num_bytes / 2**20)


def write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    """Writes a row a line and returns the path."""
    with path.open("w") as file:
        for row in rows:
            file.write(json.dumps(row) + "\n")
    return path


def _read_share(source: TaskSource, share: Share, path: Path) -> int:
    return write_fingerprints(fingerprints(source, share), path)


def _fingerprinted(folder: Path, source: TaskSource) -> TaskFingerprints:
    shares = [Share(index=index, of=CORES) for index in range(CORES)]
    paths = [folder / f"{source.name}-{source.split}-{share.index}.arrow" for share in shares]
    remote_results(_read_share, [(source, *each) for each in zip(shares, paths, strict=True)])
    return TaskFingerprints(task=source.name, files=tuple(paths))


def found_matches(
    folder: Path, trained: Sequence[TaskSource], held_out: Sequence[TaskSource] = ()
) -> list[Match]:
    """The matches of all rows, found by Ray tasks."""
    folder.mkdir()
    comparison = Comparison(
        folder=folder,
        trained=tuple(_fingerprinted(folder, source) for source in trained),
        held_out=tuple(_fingerprinted(folder, source) for source in held_out),
    )
    compare(comparison, remote_results)
    return [m for s in trained for m in read_matches(matches_file(folder, s.name))]


def plant(folder: Path, num_questions: int) -> tuple[TaskSource, TaskSource]:
    """The task with copies among its questions, and the held-out task; the id says what is one."""
    rng, words = random.Random(1), vocabulary()
    num_planted = max(1, int(num_questions * PLANTED_SHARE))
    num_own = num_questions - len(KINDS) * num_planted
    held_out = list(generated_questions(num_planted, seed=2))

    def rows() -> Iterator[dict[str, Any]]:
        planted = set(rng.sample(range(num_own), 2 * num_planted))
        kinds = ["exact", "near"] * num_planted
        for place, row in enumerate(generated_questions(num_own, seed=3)):
            yield row | {"id": f"a-{place}"}
            if place in planted:
                kind, text = kinds.pop(), row["question"]
                is_exact = kind == "exact"
                text = disguised(text, rng) if is_exact else one_in_ten_changed(text, words, rng)
                yield row | {"id": f"{kind}-a-{place}", "question": text}
        for row in held_out:
            text = renamed(row["question"], rng)
            yield row | {"id": f"renamed-{row['id']}", "question": text}

    paths = write_lines(folder / "many.jsonl", rows()), write_lines(folder / "held.jsonl", held_out)
    sources = [
        TaskSource(name="q", format="jsonl", path=path, split=split)
        for path, split in zip(paths, ("train", "test"), strict=True)
    ]
    return sources[0], sources[1]


def rates(matches: Sequence[Match], num_planted: int) -> dict[str, tuple[float, float]]:
    """Kind of copy -> recall and precision, by the ids of copies and partners."""
    found: dict[str, tuple[float, float]] = {}
    for kind, reason in KINDS.items():
        of_kind = [match for match in matches if match.reason == reason]
        right = sum(_is_right(match, kind) for match in of_kind)
        found[kind] = right / num_planted, right / max(1, len(of_kind))
    return found


def _is_right(match: Match, kind: str) -> bool:
    own = match.problem_id.rpartition("/")[2]
    partner = match.partner.rpartition("/")[2]
    return own == f"{kind}-{partner}"


def hidden_test_rows(folder: Path, data: Path) -> tuple[int, int]:
    """GSM8K's test rows that are found among its training rows, and their number."""
    rng = random.Random(4)
    read = {
        split: [json.loads(line) for line in (data / f"gsm8k_{split}.jsonl").open()]
        for split in ("train", "test")
    }
    rows = [row | {"id": f"own-{place}"} for place, row in enumerate(read["train"])]
    for place, row in enumerate(read["test"]):
        text = rng.choice([disguised, renamed])(row["question"], rng)
        rows.append(row | {"id": f"hidden-{place}", "question": text})
    rng.shuffle(rows)
    path = write_lines(folder / "hidden.jsonl", rows)
    sources = [
        TaskSource(name="g", format="gsm8k", path=path, split="train"),
        TaskSource(name="g", format="gsm8k", path=data / "gsm8k_test.jsonl", split="test"),
    ]
    matches = found_matches(folder / "gsm8k", sources[:1], sources[1:])
    found = {m.problem_id for m in matches if m.reason == CONTAMINATED and "hidden" in m.problem_id}
    return len(found), len(read["test"])


def lost_rows(folder: Path, data: Path) -> int:
    """The rows of tasks with shared passages that would be removed."""
    sources = [
        TaskSource(name=name, format="agieval", path=path, split="test")
        for name in PASSAGES
        if (path := data / f"agieval_{name}.jsonl").exists()
    ]
    return len(found_matches(folder / "passages", sources))


def measure(folder: Path, num_questions: int, data: Path | None) -> dict[str, Any]:
    """The figures, as the last line has them."""
    peak = Peak()
    trained, held_out = plant(folder, num_questions)
    with peak.watched():
        started = time.perf_counter()
        matches = found_matches(folder / "many", [trained], [held_out])
        seconds = time.perf_counter() - started
    found = rates(matches, max(1, int(num_questions * PLANTED_SHARE)))
    figures: dict[str, Any] = {
        "questions": num_questions,
        "seconds": round(seconds, 1),
        "peak_rss_mb": round(peak.mb),
        "recall": round(found["near"][0], 4),
        "precision": round(found["near"][1], 4),
    }
    for kind in ("exact", "renamed"):
        recall, precision = found[kind]
        figures |= {f"{kind}_recall": round(recall, 4), f"{kind}_precision": round(precision, 4)}
    if data is not None:
        num_found, num_hidden = hidden_test_rows(folder, data)
        figures |= {"gsm8k_test_found": num_found, "gsm8k_test_hidden": num_hidden}
        figures["passage_rows_lost"] = lost_rows(folder, data)
    return figures


def main() -> None:
    """Measures, and prints a table and the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--questions", type=int, default=1_000_000)
    parser.add_argument("--data", type=Path, help="directory of GSM8K's and AGIEval's files")
    options = parser.parse_args()
    ray.init(
        num_cpus=CORES,
        include_dashboard=False,
        object_store_memory=128 << 20,
        log_to_driver=False,
    )
    try:
        with tempfile.TemporaryDirectory() as folder:
            figures = measure(Path(folder), options.questions, options.data)
    finally:
        ray.shutdown()
    table = Table(title="Copies among questions", title_justify="left")
    table.add_column("figure")
    table.add_column("value", justify="right")
    for name, value in figures.items():
        table.add_row(name.replace("_", " "), f"{value:,}")
    Console(width=100).print(table)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
