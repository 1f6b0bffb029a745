"""Rows per second at which a dataset is written, hashed, proved and read, and the memory it takes.

    python -m benchmarks.shard_bandwidth --rows 1000000

The rows are conversations of the microworld's tokenizer, about 300 tokens each and all different
within a unit of examples. Each pass is timed apart: `write` (units of examples -> shards, hashed as
they are written), `digest` (every shard against its SHA-256), `proof` (every row against the
encoding of the cautious message and the user's text), `read` (every value validated). Beside them,
on the same first rows and alternating, stand the same write and proof record by record, as versions
without labels did them. The last line is one JSON document.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from rich.console import Console
from rich.table import Table

import orca2_gen.microworld
from benchmarks.origin_files import with_origins
from orca2_gen.chat import Chat, encode_conversation, load_chat
from orca2_gen.dataset.figures import RowCounts
from orca2_gen.dataset.proof import prove
from orca2_gen.dataset.shards import read_shard
from orca2_gen.dataset.write import DatasetPlan, write_shards
from orca2_gen.microworld.instructions import microworld_strategies
from orca2_gen.prompts import prompt_messages
from orca2_gen.records import Example, Message
from orca2_gen.run_directory.arrow_files import (
    FileEntry,
    check_file,
    read_records,
    write_table,
)
from orca2_gen.run_directory.durable_files import write_bytes
from orca2_gen.run_directory.record_tables import to_table
from orca2_gen.strategies import Strategies

STUDENT = Path(orca2_gen.microworld.__file__).parent / "student"
ROWS_PER_UNIT = 1000
POOL_ROWS = 2000
ROWS_PER_SHARD = 50_000
SEED = 20


def main() -> None:
    """Prints the table and the document."""
    options = _options()
    chat, strategies = load_chat(str(STUDENT)), microworld_strategies()
    with tempfile.TemporaryDirectory(dir=options.out) as directory:
        run_dir = Path(directory)
        pool = pool_of(chat, strategies, options.tokens)
        units = list(written_units(run_dir, pool, options.rows))
        plan = with_origins(run_dir, plan_of(units), strategies)
        # First, since the memory of records would count in the peak.
        figures = measured(run_dir, plan, chat, strategies)
        pairs = [
            compared(run_dir, units[: options.compared_rows // ROWS_PER_UNIT], chat, strategies)
            for _ in range(options.pairs)
        ]
    figures |= {
        "over_before": round(statistics.median(before / now for before, now in pairs), 2),
        "over_before_pairs": [round(before / now, 2) for before, now in pairs],
        "rows": options.rows,
    }
    Console().print(table_of(figures))
    print(json.dumps(figures))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--tokens", type=int, default=300, help="of a row, about")
    parser.add_argument("--compared-rows", type=int, default=20_000, help="written both ways")
    parser.add_argument("--pairs", type=int, default=3, help="of passes that are compared")
    parser.add_argument("--out", type=Path, help="where a temporary directory is made")
    return parser.parse_args()


def pool_of(chat: Chat, strategies: Strategies, num_tokens: int) -> pa.Table:
    """Examples of about so many tokens, all different."""
    chance = random.Random(SEED)
    rows = []
    for index in range(POOL_ROWS):
        user = " ".join(f"What is {chance.randrange(10**6)} + {index}?" for _ in range(3))
        prompt = prompt_messages(strategies.cautious_message, user)
        answer, length = "", 0
        ids: tuple[int, ...] = ()
        while len(ids) < num_tokens:
            # A sentence of the demo's tasks has about 25 tokens.
            sentence = f"{chance.randrange(10**4)} and {chance.randrange(10**4)} are in the sum. "
            answer += sentence * max(1, (num_tokens - len(ids)) // 50)
            messages = (*prompt, Message(role="assistant", content=answer))
            ids, length = encode_conversation(chat, messages)
        rows.append(
            Example(
                problem_id=f"sums/train/{index}",
                task="sums",
                strategy="step_by_step",
                messages=messages,
                input_ids=ids,
                num_prompt_tokens=length,
            )
        )
    return to_table(rows, Example)


def written_units(run_dir: Path, pool: pa.Table, num_rows: int) -> Iterator[FileEntry]:
    """Units of examples, each of other rows of the pool in another order, with ids of their own."""
    chance = random.Random(SEED)
    at = pool.schema.get_field_index("problem_id")
    for start in range(0, num_rows, ROWS_PER_UNIT):
        count = min(ROWS_PER_UNIT, num_rows - start)
        unit = pool.take(pa.array(chance.sample(range(POOL_ROWS), count)))
        ids = pa.array([f"sums/train/{start + place}" for place in range(count)])
        unit = unit.set_column(at, pool.schema.field(at), ids)
        yield write_table(run_dir, f"examples/sums-{start:07d}.a1.arrow", unit)


def plan_of(units: Sequence[FileEntry]) -> DatasetPlan:
    return DatasetPlan(
        examples=tuple(units),
        tokenizer=str(STUDENT),
        prompts="erased",
        examples_per_shard=ROWS_PER_SHARD,
        key="sums",
        name="sums",
    )


def measured(
    run_dir: Path, plan: DatasetPlan, chat: Chat, strategies: Strategies
) -> dict[str, Any]:
    """The rates of the passes over the whole plan, and the memory that they took."""
    root, counted = run_dir / "dataset", RowCounts()
    files, write_seconds = timed(lambda: write_shards(run_dir, plan, root, counted))
    num_rows, num_bytes = counted.by_task.total(), sum(entry.bytes for entry in files)
    hash_seconds = timed(lambda: [_hashed(root / entry.path) for entry in files])[1]
    digest_seconds = timed(lambda: _check(root, files))[1]
    proof, proof_seconds = timed(
        lambda: prove(_batches(root, files), chat=chat, strategies=strategies)
    )
    assert proof.holds and proof.num_examples == num_rows == sum(u.rows for u in plan.examples)
    _, read_seconds = timed(lambda: sum(batch.num_rows for batch in _batches(root, files)))
    return {
        "write_rows_per_second": round(num_rows / write_seconds),
        "proof_rows_per_second": round(num_rows / proof_seconds),
        "read_rows_per_second": round(num_rows / read_seconds),
        "write_mb_s": round(num_bytes / write_seconds / 1e6, 1),
        "verify_mb_s": round(num_bytes / digest_seconds / 1e6, 1),
        "verify_over_hash": round(hash_seconds / digest_seconds, 3),
        "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        "tokens_per_row": round(counted.input_tokens / num_rows, 1),
        "mb": round(num_bytes / 1e6, 1),
    }


def _batches(root: Path, files: Sequence[FileEntry]) -> Iterator[pa.RecordBatch]:
    for entry in files:
        yield from read_shard(root, entry)


def _check(root: Path, files: Sequence[FileEntry]) -> None:
    for entry in files:
        check_file(root, entry)


def _hashed(path: Path) -> str:
    """The SHA-256 of a file that is read in large parts: the speed of the hash itself."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


def compared(
    run_dir: Path, units: Sequence[FileEntry], chat: Chat, strategies: Strategies
) -> tuple[float, float]:
    """Seconds of write and proof, record by record and as they are."""
    plan, root = plan_of(units), run_dir / "compared"

    def as_it_is() -> int:
        files = write_shards(run_dir, plan, root, RowCounts())
        proof = prove(_batches(root, files), chat=chat, strategies=strategies)
        return proof.num_proved

    def record_by_record() -> int:
        files = _written_as_records(run_dir, plan, root)
        rows = (row for entry in files for row in read_records(root, entry, Example))
        return sum(_is_erased(row, chat, strategies) for row in rows)

    (before, before_seconds), (now, now_seconds) = timed(record_by_record), timed(as_it_is)
    assert before == now == sum(entry.rows for entry in units)
    return before_seconds, now_seconds


def _written_as_records(run_dir: Path, plan: DatasetPlan, root: Path) -> list[FileEntry]:
    """Shards as versions without labels wrote them: a shard is a list of records, then a body."""
    rows = [row for entry in plan.examples for row in read_records(run_dir, entry, Example)]
    files = []
    for start in range(0, len(rows), plan.examples_per_shard):
        shard = to_table(rows[start : start + plan.examples_per_shard], Example)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, shard.schema) as stream:
            stream.write_table(shard, max_chunksize=1000)
        body = sink.getvalue().to_pybytes()
        name = f"records-{start:07d}.arrow"
        write_bytes(root / name, body)
        digest = hashlib.sha256(body).hexdigest()
        files.append(FileEntry(path=name, rows=shard.num_rows, bytes=len(body), sha256=digest))
    return files


def _is_erased(row: Example, chat: Chat, strategies: Strategies) -> bool:
    is_told = row.messages[0].content == strategies.cautious_message
    return is_told and (row.input_ids, row.num_prompt_tokens) == encode_conversation(
        chat, row.messages
    )


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """What the work returns, and the seconds it took."""
    begun = time.monotonic()
    made = work()
    return made, time.monotonic() - begun


def table_of(figures: dict[str, Any]) -> Table:
    """The figures for people."""
    table = Table(title="A dataset of examples, pass by pass")
    for column in ("figure", "value"):
        table.add_column(column, justify="right" if column == "value" else "left")
    for name, value in figures.items():
        table.add_row(name, str(value))
    return table


if __name__ == "__main__":
    main()
