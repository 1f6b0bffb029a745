from __future__ import annotations

import dataclasses
import json
import threading
import time
from pathlib import Path

from orca2_gen.run_directory.engine_figures import (
    EngineFigures,
    figures_path,
    read_figures,
    write_figures,
)
from orca2_gen.run_directory.ledger import read_ledger
from tests.conftest import Call, FinishedRun

LIVING = EngineFigures(
    start="f00",
    stage="scores",
    model="student",
    replica=7,
    node="far",
    seconds=60.0,
    start_seconds=40.0,
    num_open=9,
)


def test_a_program_reads_the_same_counts_as_people(orca2: Call, undisturbed: FinishedRun) -> None:
    code, out, _ = orca2("status", undisturbed.run_dir, "--json")
    found = json.loads(out)
    ledger = read_ledger(undisturbed.run_dir)
    assert code == 0 and found["has_driver"] is False
    for stage, counts in found["stages"].items():
        receipts = ledger.committed(stage)
        assert counts["units"] == len(receipts) > 0
        assert counts["accepted"] == sum(each.counts["accepted"] for each in receipts)
    assert found["tasks"]["problems"]["sums"]["rejected"] == 4
    assert len(found["engines"]) == len(read_figures(undisturbed.run_dir)) > 0
    assert {cost["stage"] for cost in found["cost"]["stages"]} >= {"scores", "rationales"}


def test_people_read_what_engines_cost(orca2: Call, undisturbed: FinishedRun) -> None:
    _, out, _ = orca2("status", undisturbed.run_dir)
    assert "Cost by stage; engine-seconds" in out and "Cost by strategy" in out
    assert " rows in each" in out


def test_a_run_whose_first_unit_is_not_done_is_shown_too(orca2: Call, tmp_path: Path) -> None:
    write_figures(figures_path(tmp_path, "student-7", "f00"), LIVING)
    code, out, _ = orca2("status", tmp_path)
    assert code == 0 and "scores" in out
    code, out, _ = orca2("status", tmp_path, "--json")
    assert json.loads(out)["engines"][0]["num_open"] == 9


def test_a_finished_run_is_watched_for_a_moment_only(orca2: Call, undisturbed: FinishedRun) -> None:
    code, out, _ = orca2("status", undisturbed.run_dir, "--watch")
    assert code == 0 and "scores: " in out


def test_a_live_run_is_watched_until_its_driver_lets_go_of_the_lock(
    orca2: Call, run_copy: Path
) -> None:
    (run_copy / "driver.lock").write_text("{}")

    def work() -> None:
        for second in range(15):  # the command itself takes a few to start
            now = dataclasses.replace(LIVING, seconds=60.0 + second, generated_tokens=50 * second)
            write_figures(figures_path(run_copy, "student-7", "f00"), now)
            time.sleep(1.0)
        (run_copy / "driver.lock").unlink()

    working = threading.Thread(target=work)
    working.start()
    code, out, _ = orca2("status", run_copy, "--watch")
    working.join()
    assert code == 0 and "student 7" in out and "far" in out


def test_watching_is_for_people(orca2: Call, undisturbed: FinishedRun) -> None:
    code, _, err = orca2("status", undisturbed.run_dir, "--watch", "--json")
    assert code == 2 and "give one of them" in err
