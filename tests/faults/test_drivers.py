"""Drivers that are killed, interrupted, started twice, cut off or in odd places.

Faults 7, 8, 18, 39, 42, 45, 47.
"""

from __future__ import annotations

import ast
import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import ray

from orca2_gen.config.load import load_config
from orca2_gen.exit_codes import FAILED, INTERRUPTED
from orca2_gen.foresight.amounts import Amount
from orca2_gen.run_directory.ledger import read_ledger
from orca2_gen.run_directory.units import Receipt
from ray_jobs.pipeline import run_all
from ray_jobs.run import open_run
from tests.conftest import STRATEGY_NAMES, Call, FinishedRun, write_run_config
from tests.faults.drivers import ROOT, assert_one_reason, run_driver, start_driver, wait_until
from tests.faults.faulty import asked, plant
from tests.faults.oracle import assert_sound, assert_whole, snapshot
from tests.faults.test_engines import run_to_the_end
from tests.ray_jobs.test_pipeline import dataset_bytes

pytestmark = pytest.mark.usefixtures("local_ray")

OUT_WITHIN_SECONDS = 10.0
"""`ray job stop` kills after 3 seconds; a machine that is busy with other tests gets more."""
SLOW = {f"sums/train/s{n}": 0.4 for n in range(28)}


@pytest.fixture
def address() -> str:
    found: str = ray.get_runtime_context().gcs_address
    return found


@pytest.mark.usefixtures("faulty_engines")
@pytest.mark.parametrize(
    "seed", [0, pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow)]
)
def test_7_a_driver_killed_at_a_random_moment_goes_on_where_it_was(
    undisturbed: FinishedRun, tmp_path: Path, address: str, seed: int
) -> None:
    run_dir = tmp_path / "run"
    plant(run_dir)
    wanted = random.Random(seed).randrange(1, len(read_ledger(undisturbed.run_dir).units))
    process = start_driver(undisturbed.config_file, run_dir, address=address)
    wait_until(process, lambda: len(read_ledger(run_dir).units) >= wanted)
    process.kill()
    process.communicate()
    before = snapshot(run_dir)
    assert len(before.units) >= wanted
    said = run_to_the_end(undisturbed, run_dir)
    assert_whole(run_dir, undisturbed.run_dir, printed="\n".join(said), before=before)
    assert dataset_bytes(run_dir) == dataset_bytes(undisturbed.run_dir)


@pytest.mark.usefixtures("faulty_engines")
@pytest.mark.parametrize(
    "signum", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
def test_8_a_signal_ends_a_run_in_good_order_and_the_same_command_goes_on(
    undisturbed: FinishedRun, tmp_path: Path, orca2: Call, address: str, signum: signal.Signals
) -> None:
    run_dir = tmp_path / "run"
    plant(run_dir, slow=SLOW)
    process = start_driver(undisturbed.config_file, run_dir, address=address)
    wait_until(process, lambda: len(read_ledger(run_dir).committed("scores")) > 1)
    process.send_signal(signum)
    sent = time.monotonic()
    printed, _ = process.communicate(timeout=120)
    seconds = time.monotonic() - sent
    assert process.returncode == INTERRUPTED, printed
    assert seconds < OUT_WITHIN_SECONDS
    assert "run the same command again" in printed and "Traceback" not in printed
    assert not (run_dir / "driver.lock").exists()
    before = snapshot(run_dir)
    plant(run_dir)
    code, out, err = orca2("run", undisturbed.config_file, "--set", f"run_dir={run_dir}")
    again = out + err
    assert code == 0, again
    assert len(asked(run_dir)) > before.requests
    assert_whole(run_dir, undisturbed.run_dir, printed=printed + again, before=before)


@pytest.mark.slow
def test_8_a_second_signal_ends_a_run_at_once(
    undisturbed: FinishedRun, tmp_path: Path, address: str
) -> None:
    run_dir = tmp_path / "run"
    plant(run_dir, slow=SLOW)
    process = start_driver(undisturbed.config_file, run_dir, address=address)
    wait_until(process, lambda: len(read_ledger(run_dir).committed("scores")) > 0)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGINT)
    printed, _ = process.communicate(timeout=120)
    assert process.returncode == INTERRUPTED
    # After one signal it says that it was interrupted and releases its lock.
    assert "Interrupted" not in printed
    assert json.loads((run_dir / "driver.lock").read_text())["pid"] == process.pid
    before = snapshot(run_dir)
    plant(run_dir)
    code, again = run_driver(undisturbed.config_file, run_dir, address=address)
    assert code == 0, again
    assert_whole(run_dir, undisturbed.run_dir, printed=printed + again, before=before)


@pytest.mark.usefixtures("faulty_engines")
def test_18_a_second_driver_on_the_same_directory_is_refused(
    undisturbed: FinishedRun, tmp_path: Path, address: str
) -> None:
    run_dir = tmp_path / "run"
    plant(run_dir)
    second: list[tuple[int, str]] = []

    @contextmanager
    def track(stage: str, amount: Amount) -> Iterator[Callable[[Receipt], None]]:
        def advance(receipt: Receipt) -> None:
            if not second:
                second.append(run_driver(undisturbed.config_file, run_dir, address=address))

        yield advance

    config = load_config(undisturbed.config_file, [f"run_dir={run_dir}"])
    with open_run(config, track) as run:
        run_all(run)
    [(code, printed)] = second
    assert code == 1, printed
    assert f"is in use by process {os.getpid()}" in printed and "Traceback" not in printed
    assert_whole(run_dir, undisturbed.run_dir, printed=printed)


TOLD_TIMES = {
    "examined_nodes.py",  # `orca2 doctor` tells people how clocks differ
    "metrics.py",  # a line of RUN/metrics.jsonl says when it was written
}


def test_39_no_wait_and_no_decision_uses_the_wall_clock() -> None:
    for folder in ("orca2_gen", "ray_jobs"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            if path.name in TOLD_TIMES:
                continue
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                    name = f"{node.value.id}.{node.attr}"
                    assert name not in ("time.time", "datetime.now", "os.path.getmtime"), path


@pytest.mark.slow
def test_42_a_run_works_in_odd_paths_under_a_strict_umask_with_a_read_only_tokenizer(
    undisturbed: FinishedRun, tmp_path: Path, chatml_dir: Path
) -> None:
    folder = tmp_path / "l\u00e4ufe und m\u0101ori"
    tokenizer = Path(shutil.copytree(chatml_dir, folder / "token izer \u00e9"))
    config_file = write_run_config(folder / "c\u00f6nfig 1", tokenizer)
    run_dir = folder / "run 1"
    plant(run_dir)
    # A bind mount, since root may write in any mode; all that the driver starts sees it.
    script = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && umask 077 && exec "$@"'
    through = ["unshare", "-rm", "sh", "-c", script, str(tokenizer)]
    probe = subprocess.run(
        [*through, "touch", str(tokenizer / "new")], capture_output=True, text=True, check=False
    )
    if "Read-only file system" not in probe.stderr:
        pytest.skip(f"no mount namespaces here: {probe.stderr.strip()}")
    code, printed = run_driver(config_file, run_dir, through=through)
    assert code == 0, printed
    assert_whole(run_dir, undisturbed.run_dir, printed=printed)
    written = [path for path in [run_dir, *run_dir.rglob("*")] if path.stat().st_mode & 0o077]
    assert written == [], "others may read what the umask keeps from them"


@pytest.mark.slow
def test_45_lost_and_failed_calls_between_ray_processes_double_nothing(
    undisturbed: FinishedRun, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    plant(run_dir)
    failing = json.dumps(
        {"*": {"num_failures": 20, "req_failure_prob": 10, "resp_failure_prob": 10}}
    )
    code, printed = run_driver(
        undisturbed.config_file,
        run_dir,
        "dispatch.start_seconds=60",  # Ray can lose an actor's start for good
        RAY_testing_rpc_failure=failing,
        RAY_testing_asio_delay_us="*=0:2000",
    )
    before = None
    if code != 0:  # a fault that Ray cannot fix must still be one clear, resumable end
        assert code == FAILED, printed
        assert_one_reason(printed)
        before = snapshot(run_dir)
        code, printed = run_driver(undisturbed.config_file, run_dir)
    assert code == 0, printed
    assert_whole(run_dir, undisturbed.run_dir, printed=printed, before=before)


@pytest.mark.parametrize("rows", ["{not json\n", '{"question": "1 + 1?", "answer": "2"}\n'])
def test_47_bad_rows_and_a_single_row_give_a_valid_dataset_if_the_limit_allows_it(
    undisturbed: FinishedRun, tmp_path: Path, orca2: Call, rows: str
) -> None:
    import datasets

    folder = tmp_path / "config"
    folder.mkdir()
    text = undisturbed.config_file.read_text()
    (folder / "run.toml").write_text(text)
    for name in ("sums.jsonl", "letters.jsonl"):
        (folder / name).write_text(rows if name == "sums.jsonl" else "[]\n")
    run_dir = tmp_path / "run"
    all_right = ", ".join(f"{name} = 1.0" for name in STRATEGY_NAMES)
    sets = ["--set", f"run_dir={run_dir}", "--set", f"teacher.accuracy={{{all_right}}}"]
    sets += ["--set", "dispatch.max_rejection_rate=1.0"]
    code, out, err = orca2("run", folder / "run.toml", *sets)
    printed = out + err
    wanted = int(rows.startswith('{"q'))
    found = datasets.load_from_disk(str(run_dir / "dataset"))
    assert len(found) == wanted
    assert code == (0 if wanted else 3), printed
    assert "Traceback" not in printed
    assert "messages" in found.column_names
    assert_sound(run_dir, printed=printed)
