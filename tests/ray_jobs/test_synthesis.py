from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from orca2_gen.cli import cli
from orca2_gen.provenance.verify import verify
from tests.conftest import Write

pytestmark = pytest.mark.usefixtures("local_ray")


def test_topics_become_a_task_file_whatever_interrupts_and_no_topic_is_lost(
    write_config: Write, tmp_path: Path
) -> None:
    topics = tmp_path / "topics.jsonl"
    rows = [{"topic": f"The price of bread in town {n}", "category": "trade"} for n in range(12)]
    topics.write_text("\n".join(["[]", *map(json.dumps, rows)]))
    out = tmp_path / "out.jsonl"
    arguments = ["synthesise", str(write_config()), str(topics), str(out)]
    first = CliRunner().invoke(cli, arguments)
    assert first.exit_code == 0, first.output
    written = out.read_bytes()
    found = [json.loads(line) for line in written.splitlines()]
    assert [row["topic"] for row in found] == [row["topic"] for row in rows]
    assert {row["category"] for row in found} == {"trade"}
    assert all(row["question"].endswith("Summarise this conversation.") for row in found)
    run_dir = tmp_path / "out.jsonl.run"
    assert len(list((run_dir / "rejections").glob("problems-*"))) == 1
    assert verify(run_dir).findings == []
    ledger = (run_dir / "ledger.jsonl").read_bytes()
    assert CliRunner().invoke(cli, arguments).exit_code == 0
    assert (out.read_bytes(), (run_dir / "ledger.jsonl").read_bytes()) == (written, ledger)
