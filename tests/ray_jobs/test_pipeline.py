from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from orca2_gen.config.load import load_config
from orca2_gen.dataset.figures import DatasetSummary
from orca2_gen.dataset.manifest import checked_manifest, read_examples
from orca2_gen.exit_codes import TooManyRejections
from orca2_gen.foresight.amounts import Amount
from orca2_gen.provenance.accounting import RECORDS
from orca2_gen.provenance.verify import verify
from orca2_gen.records import Example, Problem, Rationale, Rejection, Selection, StudentScore
from orca2_gen.run_directory.arrow_files import DamagedFile
from orca2_gen.run_directory.ledger import Ledger, read_ledger
from orca2_gen.run_directory.units import STAGES, Receipt, read_unit
from orca2_gen.run_directory.unlisted import unlisted_files
from ray_jobs.pipeline import read_tasks, run_all, score_student
from ray_jobs.run import Run, open_run
from tests.conftest import NUM_BAD, NUM_LETTERS, NUM_SUMS, FinishedRun, Write, quiet

pytestmark = pytest.mark.usefixtures("local_ray")

RUN_STAGES = ("problems", "scores", "selections", "rationales", "examples")
ORCA2 = str(Path(sys.executable).with_name("orca2"))


def run_config(file: Path, *overrides: str) -> tuple[Path, DatasetSummary]:
    config = load_config(file, overrides)
    with open_run(config, quiet) as run:
        return run.run_dir, run_all(run)


def rows(ledger: Ledger, stage: str) -> tuple[list[object], list[Rejection]]:
    accepted: list[object] = []
    rejected: list[Rejection] = []
    for receipt in ledger.committed(stage):
        of_unit, lost = read_unit(ledger.run_dir, receipt, RECORDS[stage])
        accepted += of_unit
        rejected += lost
    return accepted, rejected


def ids(found: list[object]) -> Counter[str]:
    return Counter(row.problem_id for row in found)  # type: ignore[attr-defined]


def dataset_bytes(run_dir: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (run_dir / "dataset").iterdir()}


def stage_files(run_dir: Path) -> dict[str, int]:
    folders = [run_dir / stage for stage in (*STAGES, "rejections", "dataset")]
    return {str(path): path.stat().st_mtime_ns for folder in folders for path in folder.glob("*")}


def test_accepted_plus_rejected_plus_not_needed_is_everything_by_id(
    undisturbed: FinishedRun,
) -> None:
    ledger = read_ledger(undisturbed.run_dir)
    problems, unreadable = rows(ledger, "problems")
    assert len(problems) == NUM_SUMS + NUM_LETTERS
    assert len(unreadable) == NUM_BAD
    assert Counter(r.reason for r in unreadable).total() == len({r.problem_id for r in unreadable})
    scores, _ = rows(ledger, "scores")
    selections, _ = rows(ledger, "selections")
    cells = Counter((s.problem_id, s.strategy) for s in scores if isinstance(s, StudentScore))
    assert set(cells.values()) == {1}
    for selection in selections:
        assert isinstance(selection, Selection)
        of_group = [s for s in scores if isinstance(s, StudentScore) and s.task == selection.group]
        not_needed = sum(selection.num_problems - s.num_scored for s in selection.summaries)
        assert len(of_group) + not_needed == selection.num_problems * len(selection.summaries)
    rationales, untaught = rows(ledger, "rationales")
    assert ids(rationales) + ids(list(untaught)) == ids(problems)
    assert untaught, "the teacher is scripted to fail at some"
    examples, too_long = rows(ledger, "examples")
    assert ids(examples) + ids(list(too_long)) == ids(rationales)
    dataset = read_examples(
        undisturbed.run_dir / "dataset", checked_manifest(undisturbed.run_dir / "dataset")
    )
    assert ids(list(dataset)) == ids(examples)


def test_a_whole_run_verifies(undisturbed: FinishedRun) -> None:
    found = verify(undisturbed.run_dir)
    assert found.findings == []
    assert found.notes == []


def test_every_problem_is_taught_under_the_strategy_its_group_selected(
    undisturbed: FinishedRun,
) -> None:
    ledger = read_ledger(undisturbed.run_dir)
    chosen = {
        s.group: s.strategy for s in rows(ledger, "selections")[0] if isinstance(s, Selection)
    }
    for row in [*rows(ledger, "rationales")[0], *rows(ledger, "examples")[0]]:
        assert isinstance(row, Rationale | Example)
        assert row.strategy == chosen[row.task]


def test_running_again_does_no_engine_work_and_touches_no_file(
    undisturbed: FinishedRun, write_config: Write
) -> None:
    lines = (undisturbed.run_dir / "ledger.jsonl").read_bytes()
    files = stage_files(undisturbed.run_dir)
    run_config(undisturbed.config_file)
    assert (undisturbed.run_dir / "ledger.jsonl").read_bytes() == lines
    assert stage_files(undisturbed.run_dir) == files


def test_how_and_where_a_run_happens_changes_no_byte_of_its_units(
    undisturbed: FinishedRun, tmp_path: Path
) -> None:
    run_dir, _ = run_config(
        undisturbed.config_file,
        f"run_dir={tmp_path / 'run'}",
        "student.replicas=2",
        "student.max_num_seqs=1",
    )
    assert dataset_bytes(run_dir) == dataset_bytes(undisturbed.run_dir)


def test_a_run_that_stopped_after_the_scores_ends_with_the_same_dataset(
    undisturbed: FinishedRun, tmp_path: Path
) -> None:
    override = f"run_dir={tmp_path / 'run'}"
    with open_run(load_config(undisturbed.config_file, [override]), quiet) as run:
        read_tasks(run)
        score_student(run)
        scored = stage_files(run.run_dir)
    run_dir, _ = run_config(undisturbed.config_file, override)
    assert scored.items() <= stage_files(run_dir).items()
    assert dataset_bytes(run_dir) == dataset_bytes(undisturbed.run_dir)
    assert verify(run_dir).findings == []


def kill_engines() -> int:
    """Kills every engine actor of this session's Ray, as the kernel would."""
    engines = [
        p
        for p in psutil.Process().children(recursive=True)
        if p.status() != psutil.STATUS_ZOMBIE and "ray::EngineActor" in " ".join(p.cmdline())
    ]
    for process in engines:
        process.kill()
    return len(engines)


@pytest.mark.parametrize("max_num_seqs", [pytest.param(1, marks=pytest.mark.slow), 256])
def test_an_engine_killed_mid_stage_is_started_again_and_nothing_is_lost_or_double(
    undisturbed: FinishedRun, tmp_path: Path, max_num_seqs: int
) -> None:
    killed: dict[str, int] = {}

    @contextmanager
    def track(stage: str, amount: Amount) -> Iterator[Callable[[Receipt], None]]:
        def advance(receipt: Receipt) -> None:
            if stage in ("scores", "rationales") and stage not in killed:
                killed[stage] = kill_engines()
                time.sleep(0.5)

        yield advance

    sets = [
        f"run_dir={tmp_path / 'run'}",
        f"student.max_num_seqs={max_num_seqs}",
        f"teacher.max_num_seqs={max_num_seqs}",
    ]
    with open_run(load_config(undisturbed.config_file, sets), track) as run:
        run_all(run)
    assert killed == {"scores": 1, "rationales": 1}
    assert dataset_bytes(run.run_dir) == dataset_bytes(undisturbed.run_dir)
    assert verify(run.run_dir).findings == []


@pytest.mark.parametrize("policy", ["random", "fixed:explain_then_answer", "teacher_best"])
def test_every_policy_ends_in_a_whole_run(
    undisturbed: FinishedRun, tmp_path: Path, policy: str
) -> None:
    run_dir, summary = run_config(
        undisturbed.config_file, f"run_dir={tmp_path / 'run'}", f"selection.policy={policy}"
    )
    ledger = read_ledger(run_dir)
    scores = [s for s in rows(ledger, "scores")[0] if isinstance(s, StudentScore)]
    assert {s.role for s in scores} == ({"teacher"} if policy == "teacher_best" else set())
    assert {s.policy for s in rows(ledger, "selections")[0] if isinstance(s, Selection)} == {policy}
    assert summary.rows > 0
    assert verify(run_dir).findings == []


def test_a_prompt_too_long_for_the_context_never_reaches_an_engine(
    write_config: Write, tmp_path: Path
) -> None:
    file = write_config()
    long = {"id": "long", "question": "What is 1 + 1? " * 2000, "answer": "2"}
    with open(tmp_path / "sums.jsonl", "a", encoding="utf-8") as sums:
        sums.write(json.dumps(long) + "\n")
    with open_run(load_config(file), quiet) as run:
        read_tasks(run)
        score_student(run)
        problems, rejected = rows(run.ledger, "problems")
        scores, _ = rows(run.ledger, "scores")
    [found] = [r for r in rejected if r.problem_id == "sums/train/long"]
    assert found.reason == "prompt_too_long" and "max_model_len is 4096" in found.detail
    assert "sums/train/long" not in ids(problems) and "sums/train/long" not in ids(scores)


def test_a_file_that_a_killed_predecessor_finishes_late_is_gone_at_the_end(
    undisturbed: FinishedRun, run_copy: Path
) -> None:
    config = load_config(undisturbed.config_file, [f"run_dir={run_copy}"])
    with open_run(config, quiet) as run:
        run_all(run)
        listed = run_copy / run.ledger.committed("rationales")[0].accepted.path
        token = listed.stem.rsplit("-", 1)[1]
        late = Path(shutil.copy(listed, listed.with_name(listed.name.replace(token, "abcdef"))))
        assert unlisted_files(run.ledger) == [late]
    assert unlisted_files(read_ledger(run_copy)) == []


@pytest.mark.parametrize("is_fork", [False, True])
def test_a_second_driver_is_refused_before_it_writes_anything(
    undisturbed: FinishedRun, tmp_path: Path, is_fork: bool
) -> None:
    fork = undisturbed.run_dir if is_fork else None
    config = load_config(undisturbed.config_file, [f"run_dir={tmp_path / 'run'}"])
    with open_run(config, quiet):
        before = sorted((tmp_path / "run").rglob("*"))
        with (
            pytest.raises(ValueError, match="is in use by process"),
            open_run(config, quiet, fork=fork),
        ):
            pass
        assert sorted((tmp_path / "run").rglob("*")) == before


def test_a_changed_setting_is_refused_and_a_fork_takes_over_what_stays(
    undisturbed: FinishedRun, tmp_path: Path
) -> None:
    change = "rationales.temperature=0.1"
    with pytest.raises(ValueError, match=r"rationales made differently: temperature: 0.7 -> 0.1"):
        run_config(undisturbed.config_file, change)
    config = load_config(undisturbed.config_file, [change, f"run_dir={tmp_path / 'fork'}"])
    lines: list[str] = []
    with open_run(config, quiet, lines.append, fork=undisturbed.run_dir) as run:
        run_all(run)
    assert lines[0] == f"forked problems, scores, selections from {undisturbed.run_dir}"
    run_dir = tmp_path / "fork"
    assert verify(run_dir).findings == []
    before, after = read_ledger(undisturbed.run_dir), read_ledger(run_dir)
    assert before.committed("scores") == after.committed("scores")


@pytest.mark.parametrize("stage", ["problems", "scores", "rationales"])
def test_a_run_with_a_damaged_file_continues_in_a_fork(
    undisturbed: FinishedRun, run_copy: Path, tmp_path: Path, stage: str
) -> None:
    hit = run_copy / read_ledger(run_copy).committed(stage)[0].accepted.path
    hit.write_bytes(hit.read_bytes()[:-1])
    config = load_config(undisturbed.config_file, [f"run_dir={tmp_path / 'fork'}"])
    lines: list[str] = []
    with open_run(config, quiet, lines.append, fork=run_copy) as run:
        run_all(run)
    assert "left behind" in lines[1] and str(hit) in lines[1]
    assert verify(tmp_path / "fork").findings == []
    for name in STAGES:
        ours, theirs = (rows(read_ledger(d), name) for d in (run.run_dir, undisturbed.run_dir))
        assert ours == theirs, name


def test_tasks_without_a_single_problem_give_an_empty_dataset(
    write_config: Write, tmp_path: Path
) -> None:
    file = write_config()
    (tmp_path / "sums.jsonl").write_text("[]\n")
    (tmp_path / "letters.jsonl").write_text("{not json\n")
    run_dir, summary = run_config(file, "dispatch.max_rejection_rate=1.0")
    assert summary.rows == 0
    assert verify(run_dir).findings == []


def test_a_task_of_mistyped_fields_stops_a_run_at_its_end_and_again_and_a_good_one_is_told_too(
    write_config: Write, tmp_path: Path
) -> None:
    file = write_config()
    lines = [json.dumps({"prompt": f"What is {n}?", "label": str(n)}) for n in range(50)]
    (tmp_path / "letters.jsonl").write_text("\n".join(lines))
    for _ in range(2):
        said: list[str] = []
        with (
            pytest.raises(TooManyRejections) as stopped,
            open_run(load_config(file, ["rows_per_unit=16"]), quiet, said.append) as run,
        ):
            read_tasks(run)
        assert "letters: 50 rows read, 0 accepted, 50 rejected (50 no_question)" in said
        assert any(
            line.startswith("sums: 32 rows read, 28 accepted, 4 rejected (") for line in said
        )
        assert str(stopped.value).startswith(
            "problems: task 'letters': every row was rejected, 50 of 50 (100.0%, "
            "max_rejection_rate is 95.0%), most for no_question (letters.jsonl:1: expected text "
            "under 'question', found "
            "no such field; the row has 'prompt', 'label'); "
        )
    allowed = load_config(file, ["rows_per_unit=16", "dispatch.max_rejection_rate=1.0"])
    with open_run(allowed, quiet) as run:
        read_tasks(run)
    assert verify(run.run_dir).findings == []


def test_two_task_files_of_one_name_may_both_hold_bad_rows(
    write_config: Write, tmp_path: Path
) -> None:
    file = write_config()
    (tmp_path / "other").mkdir()
    shutil.copy(tmp_path / "sums.jsonl", tmp_path / "other" / "sums.jsonl")
    other = tmp_path / "other" / "sums.jsonl"
    sets = [f"tasks.1.path={other}", "decontaminate.duplicates=false"]
    with open_run(load_config(file, sets), quiet) as run:
        read_tasks(run)
    assert verify(run.run_dir).findings == []


def test_sigterm_ends_the_driver_with_75_and_the_run_goes_on_later(
    undisturbed: FinishedRun, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    process = subprocess.Popen(
        [ORCA2, "run", str(undisturbed.config_file), "--set", f"run_dir={run_dir}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while process.poll() is None and not read_ledger(run_dir).committed("problems"):
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, messages = process.communicate(timeout=120)
    assert process.returncode == 75, messages
    assert "Traceback" not in messages
    assert "run the same command again" in messages
    assert not (run_dir / "driver.lock").exists()
    run_config(undisturbed.config_file, f"run_dir={run_dir}")
    assert dataset_bytes(run_dir) == dataset_bytes(undisturbed.run_dir)


DRIVER = """
import sys

from orca2_gen.cli import cli

if __name__ == "__main__":
    cli.main(["run", *sys.argv[1:]], standalone_mode=False)
    print(sorted({"torch", "transformers", "vllm"} & set(sys.modules)))
"""


def test_a_driver_holds_no_library_that_only_its_inputs_need(
    undisturbed: FinishedRun, tmp_path: Path
) -> None:
    (tmp_path / "driver.py").write_text(DRIVER)
    done = subprocess.run(
        [
            *(sys.executable, tmp_path / "driver.py", undisturbed.config_file),
            *("--set", f"run_dir={tmp_path / 'run'}"),
        ],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_template_that_refuses_the_system_role_is_one_line_about_the_config(
    write_config: Write, chatml_dir: Path, tmp_path: Path
) -> None:
    model = shutil.copytree(chatml_dir, tmp_path / "model")
    (model / "chat_template.jinja").write_text("{{ raise_exception('no system role') }}")
    file = write_config()
    with (
        pytest.raises(ValueError, match=r"student.tokenizer: .*chat template refuses"),
        open_run(load_config(file, [f"student.tokenizer={model}"]), quiet),
    ):
        pass
    assert not (tmp_path / "run").exists()


def test_problems_keep_their_ids_and_order(undisturbed: FinishedRun) -> None:
    found = [
        p for p in rows(read_ledger(undisturbed.run_dir), "problems")[0] if isinstance(p, Problem)
    ]
    sums = [p.problem_id for p in found if p.task == "sums"]
    assert sums == [f"sums/train/s{n}" for n in range(NUM_SUMS)]
    assert [p.problem_id for p in found if p.task == "letters"] == [
        f"letters/train/{n}" for n in range(NUM_LETTERS)
    ]


def test_the_run_names_where_its_time_went(undisturbed: FinishedRun) -> None:
    with open_run(undisturbed.config, quiet) as run:
        assert isinstance(run, Run)
        run_all(run)
    assert set(run.seconds) == {
        "problems",
        "scores",
        "selections",
        "rationales",
        "examples",
        "dataset",
    }


RACE = ("selection.method=race", "selection.delta=0.9", "selection.scored_problems=28")


@pytest.fixture(scope="module")
def race(undisturbed: FinishedRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a whole run that races; tests copy it before they change it."""
    run_dir = tmp_path_factory.mktemp("race") / "run"
    return run_config(undisturbed.config_file, f"run_dir={run_dir}", *RACE)[0]


def test_a_race_asks_less_and_accounts_for_every_cell_that_was_not_needed(race: Path) -> None:
    found = verify(race)
    assert (found.findings, found.notes) == ([], [])
    ledger = read_ledger(race)
    selections = [s for s in rows(ledger, "selections")[0] if isinstance(s, Selection)]
    scores = [s for s in rows(ledger, "scores")[0] if isinstance(s, StudentScore)]
    fallen = [s for selection in selections for s in selection.summaries if s.fell_to]
    assert fallen, "with so large a delta some strategy falls"
    for selection in selections:
        assert selection.method == "race"
        for summary in selection.summaries:
            own = [s for s in scores if (s.task, s.strategy) == (selection.group, summary.strategy)]
            assert len(own) == summary.num_scored
    [row] = [row for row in found.table if row[0] == "scores"]
    assert row[1] == row[2] + row[4] and row[4] > 0


@pytest.mark.parametrize("schedule", [pytest.param("phased", marks=pytest.mark.slow), "overlapped"])
def test_a_race_that_is_interrupted_anywhere_ends_as_one_that_is_not(
    undisturbed: FinishedRun, race: Path, tmp_path: Path, schedule: str
) -> None:
    sets = (f"run_dir={tmp_path / 'run'}", *RACE, f"dispatch.schedule={schedule}")
    committed: list[int] = []

    @contextmanager
    def track(stage: str, amount: Amount) -> Iterator[Callable[[Receipt], None]]:
        def advance(receipt: Receipt) -> None:
            if receipt.stage == "scores" and not killed:
                killed.append(kill_engines())
            if receipt.stage == "scores" and len(committed) < 3:
                committed.append(len(committed))
                raise KeyboardInterrupt

        yield advance

    killed: list[int] = []
    for _ in range(3):
        with (
            pytest.raises(KeyboardInterrupt),
            open_run(load_config(undisturbed.config_file, sets), track) as run,
        ):
            run_all(run)
    run_dir, _ = run_config(undisturbed.config_file, *sets)
    assert read_ledger(run_dir).units.keys() == read_ledger(race).units.keys()
    assert dataset_bytes(run_dir) == dataset_bytes(race)
    assert verify(run_dir).findings == []


def test_a_selection_that_the_scores_of_a_race_do_not_lead_to_is_found(
    race: Path, tmp_path: Path
) -> None:
    run_dir = Path(shutil.copytree(race, tmp_path / "run"))
    config = run_dir / "config.json"
    resolved = json.loads(config.read_text())
    resolved["config"]["selection"]["delta"] = 0.999999
    resolved["config"]["selection"]["scored_problems"] = 27
    config.write_text(json.dumps(resolved))
    assert any("does not follow" in line for line in verify(run_dir).findings)


def resumed(run_dir: Path, file: Path, *overrides: str, check: bool = False) -> list[str]:
    """Runs a config into this run directory to its end; the lines for people."""
    said: list[str] = []
    config = load_config(file, [f"run_dir={run_dir}", *overrides])
    with open_run(config, quiet, said.append, check=check) as run:
        run_all(run)
    return said


def test_the_end_of_every_run_says_how_committed_files_were_checked(
    run_copy: Path, undisturbed: FinishedRun
) -> None:
    num_files = sum(len(r.files) for r in read_ledger(run_copy).units.values())
    last = resumed(run_copy, undisturbed.config_file)[-1]
    assert last.startswith(f"checked {num_files} committed files by size; with `--check`")
    last = resumed(run_copy, undisturbed.config_file, check=True)[-1]
    assert last == f"checked {num_files} committed files by size and digest"


@pytest.mark.parametrize("stage", [*RUN_STAGES, "rejections"])
def test_a_damaged_file_of_a_finished_run_stops_it_and_a_fork_ends_with_the_same_dataset(
    run_copy: Path, undisturbed: FinishedRun, tmp_path: Path, stage: str
) -> None:
    victim = sorted((run_copy / stage).glob("*.arrow"))[0]
    body = bytearray(victim.read_bytes())
    body[len(body) // 2] ^= 1
    victim.write_bytes(body)
    with pytest.raises(DamagedFile, match="1 of") as found:
        resumed(run_copy, undisturbed.config_file, check=True)
    assert victim.name in str(found.value) and f"--fork {run_copy}" in str(found.value)
    victim.write_bytes(body[:-1])
    with pytest.raises(DamagedFile, match=victim.name):
        resumed(run_copy, undisturbed.config_file)
    new = tmp_path / "run"  # its name is part of the dataset's card
    with open_run(
        load_config(undisturbed.config_file, [f"run_dir={new}"]), quiet, fork=run_copy
    ) as run:
        run_all(run)
    assert dataset_bytes(new) == dataset_bytes(undisturbed.run_dir)


@pytest.mark.parametrize("stage", RUN_STAGES)
def test_a_stage_that_reads_a_changed_file_names_it_and_the_way_out(
    run_copy: Path, undisturbed: FinishedRun, stage: str
) -> None:
    later = STAGES[STAGES.index(stage) + 1 :]
    lines = (run_copy / "ledger.jsonl").read_bytes().splitlines(keepends=True)
    kept = [line for line in lines if json.loads(line)["stage"] not in later]
    (run_copy / "ledger.jsonl").write_bytes(b"".join(kept))
    (run_copy / "ledger.tip.json").unlink()
    shutil.rmtree(run_copy / "dataset")
    victim = sorted((run_copy / stage).glob("*.arrow"))[0]
    body = bytearray(victim.read_bytes())
    body[len(body) // 2] ^= 1
    victim.write_bytes(body)
    with pytest.raises(DamagedFile, match=victim.name) as found:
        resumed(run_copy, undisturbed.config_file)
    assert f"--fork {run_copy}" in str(found.value)
