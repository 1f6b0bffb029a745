"""What travels to a cluster, names of jobs, and clusters that are none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from orca2_gen.config import load_config, read_config
from orca2_gen.endings import USAGE
from ray_jobs.submit import _next_id, fill_working_dir, job_client
from tests.conftest import Write
from tests.faults.drivers import ROOT


def test_sources_and_config_travel_and_nothing_else(write_config: Write, tmp_path: Path) -> None:
    config = load_config(write_config())
    there = tmp_path / "there"
    there.mkdir()
    fill_working_dir(there, config)
    files = [file for file in there.rglob("*") if file.is_file()]
    assert {file.suffix for file in files} <= {".py", ".toml", ".jinja", ".json"}
    assert [file.name for file in files if file.suffix == ".json"] == ["config.json"]
    assert not any(part.startswith(".") for file in files for part in file.parts[-3:])
    assert sum(file.stat().st_size for file in files) < 2_000_000
    assert load_config(there / "config.json") == config


def test_the_working_directory_runs_by_itself(write_config: Write, tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.mkdir()
    fill_working_dir(there, load_config(write_config()))
    done = subprocess.run(
        [sys.executable, "-c", "import orca2_gen.cli as c; print(c.__file__)"],
        cwd=there,
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == str(there / "orca2_gen" / "cli.py"), done.stderr


def test_a_config_of_another_machine_can_be_read_and_sent(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text(
        'run_dir = "/cluster/run"\n[[tasks]]\nname = "t"\nformat = "jsonl"\n'
        'path = "/cluster/t.jsonl"\n[student]\nmodel = "/cluster/student"\n'
        '[teacher]\nmodel = "/cluster/teacher"\n'
    )
    with pytest.raises(ValueError, match=r"tasks\.0\.path: no file at /cluster/t\.jsonl"):
        load_config(file)
    assert read_config(file).tasks[0].path == "/cluster/t.jsonl"


def test_ids_are_the_runs_name_and_the_next_number() -> None:
    assert _next_id("run", []) == "run-1"
    assert _next_id("run", ["run-1", "run-10", "run-x", "rerun-70", "run-a-90", ""]) == "run-11"
    assert _next_id("run-a", ["run-1", "run-a-90"]) == "run-a-91"


@pytest.mark.parametrize("address", ["127.0.0.1:8265", "os://x", "auto", ""])
def test_an_address_that_is_no_dashboards_is_refused_before_ray_sees_it(address: str) -> None:
    with pytest.raises(ValueError, match="is not a dashboard's"):
        job_client(address)


def test_where_no_dashboard_answers_one_line_says_so(write_config: Write) -> None:
    words = ["submit", str(write_config()), "--address", "http://127.0.0.1:9"]
    done = subprocess.run(
        [sys.executable, "-m", "orca2_gen", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == USAGE
    [line] = done.stderr.splitlines()
    assert line.startswith("Error: --address http://127.0.0.1:9: no Ray dashboard answers")
