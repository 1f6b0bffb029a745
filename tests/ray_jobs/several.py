"""Runs in which a teacher says what a test likes, played in this process to their dataset."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pyarrow as pa

from orca2_gen.config.load import load_config
from orca2_gen.dataset import shards
from orca2_gen.dataset.manifest import DatasetSummary
from orca2_gen.engine import WARM_UP, Request
from orca2_gen.provenance.accounting import RECORDS
from orca2_gen.records import Example, Rejection
from orca2_gen.run_directory.ledger import read_ledger
from orca2_gen.run_directory.record_tables import to_table
from orca2_gen.run_directory.units import UnitName, read_refused, read_unit, write_unit
from orca2_gen.scripted_engine import Script
from ray_jobs import pipeline, run
from ray_jobs.dispatch.unit_receipts import token_counts
from tests.conftest import quiet
from tests.dataset.test_shards import write_stream
from tests.provenance.test_verify import rewrite_ledger
from tests.ray_in_process import finished, ray_in_process

ROOT = Path(__file__).parents[2]
CONFIG = f"""
run_dir = "run"
rows_per_unit = 3
[dispatch]
max_rejection_rate = 1.0
[scoring]
max_tokens = 8
retry_max_tokens = 8
[[tasks]]
name = "sums"
format = "jsonl"
path = "sums.jsonl"
answer_type = "numeric"
[student]
engine = "scripted"
max_model_len = 300
tokenizer = "{ROOT}/orca2_gen/microworld/student"
[teacher]
engine = "scripted"
tokenizer = "{ROOT}/orca2_gen/microworld/teacher"
[selection]
policy = "fixed:direct_answer"
[rationales]
temperature = 0.7
[dataset]
examples_per_shard = 4
"""
Said = Mapping[str, Sequence[str]]
"""Own id of a problem -> what the teacher says at each attempt."""


def config_file(folder: Path, said: Said) -> Path:
    """A config whose problems have these ids and all the gold answer 7."""
    rows = [
        {"id": own, "question": f"What is {number} + {7 - number}?", "answer": "7"}
        for number, own in enumerate(said)
    ]
    folder.mkdir(parents=True, exist_ok=True)
    task = folder / "sums.jsonl"
    task.write_text("".join(json.dumps(row) + "\n" for row in rows))
    file = folder / "run.toml"
    file.write_text(CONFIG.replace('"sums.jsonl"', f'"{task}"'))
    return file


def script_of(said: Said) -> Script:
    """A script that says this."""

    def script(request: Request) -> str:
        if request.problem_id == WARM_UP:
            return "Answer: 2"
        return said[request.problem_id.rpartition("/")[2]][request.attempt]

    return script


def play(file: Path, run_dir: Path, said: Said, *overrides: str) -> DatasetSummary:
    """The summary of a config's dataset, made or gone on with in this process."""
    config = load_config(file, [f"run_dir={run_dir}", *overrides])
    with (
        patch("ray_jobs.engines.actor.planted_script", lambda *_: script_of(said)),
        ray_in_process(finished),
        run.open_run(config, quiet, say=lambda line: None) as opened,
    ):
        return pipeline.run_all(opened)


@contextmanager
def by_an_older_version() -> Iterator[None]:
    """Examples, their rejections and the dataset are written without attempts."""

    def table_of(records: Sequence[Any], record: type) -> pa.Table:
        table = to_table(records, record)
        return table.drop_columns("attempt") if record in (Example, Rejection) else table

    def schema_of(has_reasoning: bool, has_provenance: bool) -> pa.Schema:
        schema = shards.shard_schema(has_reasoning)
        left = pa.schema([column for column in schema if column.name != "attempt"])
        about = {"info": {"features": shards.features_of(left)}}
        return left.with_metadata({"huggingface": json.dumps(about)})

    with (
        patch("orca2_gen.run_directory.units.to_table", table_of),
        patch.multiple("orca2_gen.dataset.write", shard_schema=schema_of, SHARD_LAYOUT=2),
    ):
        yield


def rewrite(run_dir: Path, stage: str, change: Callable[[list[Any]], list[Any]]) -> None:
    """Changes the rows of a unit of a stage, or of a shard, in files that all lists agree with."""
    if stage == "dataset":
        _rewrite_shard(run_dir / "dataset", change)
        return
    ledger = read_ledger(run_dir)
    record = RECORDS[stage]
    victim = max(ledger.committed(stage), key=lambda receipt: receipt.accepted.rows)
    accepted, rejected = read_unit(run_dir, victim, record)
    name = UnitName(
        stage=stage,
        stage_key=victim.stage_key,
        unit=victim.unit,
        group=victim.group,
        attempt=99,
    )
    refused = read_refused(run_dir, victim, record)
    sums = {k: n for k, n in victim.counts.items() if k.endswith("_tokens")} if refused else {}
    rows = change(accepted)
    if stage == "rationales":
        sums = token_counts(rows)
    new = write_unit(run_dir, name, rows, record, rejected, sums, refused=refused)
    for entry in victim.files:
        (run_dir / entry.path).unlink()
    rewrite_ledger(run_dir, lambda all_: [new if r == victim else r for r in all_])


def _rewrite_shard(root: Path, change: Callable[[list[Any]], list[Any]]) -> None:
    body = json.loads((root / "manifest.json").read_text())
    name = body["files"][0]["path"]
    with pa.OSFile(str(root / name)) as file, pa.ipc.open_stream(file) as stream:
        table = stream.read_all()
    places = change(list(range(table.num_rows)))
    entry = write_stream(root / name, *table.take(places).combine_chunks().to_batches())
    body["files"][0] = dataclasses.asdict(entry)
    (root / "manifest.json").write_text(json.dumps(body))
