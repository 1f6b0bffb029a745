"""Every row of a run's dataset says where it comes from, and `verify` derives it again."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from orca2_gen.config.engine import VLLMEngineConfig
from orca2_gen.config.load import load_config, read_config
from orca2_gen.dataset.manifest import checked_manifest, read_examples
from orca2_gen.dataset.origins import COLUMN, PROVENANCE, TeacherFacts
from orca2_gen.dataset.shards import features_of, read_shard, state_of
from orca2_gen.provenance.recorded import read_recorded
from orca2_gen.provenance.row_origins import teacher_facts, unit_origins
from orca2_gen.provenance.verify import verify
from orca2_gen.rationales import Asking
from orca2_gen.records import Example, Problem, Rationale, Selection
from orca2_gen.run_directory.arrow_files import (
    FileEntry,
    read_records,
    read_table,
    write_table,
)
from orca2_gen.run_directory.ledger import committed_rows, read_ledger
from orca2_gen.run_directory.units import origin_of
from ray_jobs.pipeline import run_all
from ray_jobs.run import open_run
from tests.conftest import quiet, write_run_config
from tests.dataset.test_shards import write_stream
from tests.ray_in_process import ray_in_process

Row = dict[str, Any]


def ran(file: Path, *overrides: str) -> Path:
    config = load_config(file, overrides)
    with (
        ray_in_process(lambda work, *args, **keywords: work(*args, **keywords)),
        open_run(config, quiet, say=lambda line: None) as run,
    ):
        run_all(run)
    return Path(config.run_dir)


def rows_of(root: Path) -> list[Row]:
    manifest = checked_manifest(root)
    return [
        row for e in manifest.files for batch in read_shard(root, e) for row in batch.to_pylist()
    ]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, chatml_dir: Path) -> Path:
    folder = tmp_path_factory.mktemp("origins")
    return ran(write_run_config(folder, chatml_dir), "rationales.max_attempts=4")


POLICIES = [
    [],
    ["selection.method=full_grid", "selection.cautious_arm=true"],
    ["selection.indifference=0.9"],
    ["selection.policy=teacher_best"],
    ["selection.policy=fixed:step_by_step"],
    ["selection.policy=random", "run_seed=7"],
    ["rationales.temperature=1.3", "rationales.top_p=0.5", "rationales.max_attempts=6"],
]


@pytest.mark.parametrize("overrides", POLICIES, ids=" ".join)
def test_the_provenance_of_a_row_is_what_the_run_holds_of_it(
    tmp_path: Path, chatml_dir: Path, overrides: list[str]
) -> None:
    run_dir = ran(write_run_config(tmp_path, chatml_dir), *overrides)
    ledger = read_ledger(run_dir)
    config = load_config(tmp_path / "run.toml", overrides)
    problems = {p.problem_id: p for p in committed_rows(ledger, "problems", Problem)}
    taught = {(r.problem_id, r.attempt): r for r in committed_rows(ledger, "rationales", Rationale)}
    selections = {s.group: s for s in committed_rows(ledger, "selections", Selection)}
    asked = config.rationales.model_dump(include={"temperature", "top_p", "verify", "max_attempts"})
    asking = Asking(max_tokens=9, max_model_len=9, run_seed=config.run_seed, **asked)
    rows = rows_of(run_dir / "dataset")
    assert rows
    for row in rows:
        said = row[COLUMN]
        problem, selection = problems[row["problem_id"]], selections[said["group"]]
        rationale = taught[row["problem_id"], row["attempt"]]
        lines = (tmp_path / said["source_file"]).read_text().splitlines()
        assert json.loads(lines[said["source_line"] - 1])["question"] == problem.question
        means = {
            s.strategy: s.mean
            for s in selection.summaries
            if s.num_scored and s.strategy != "cautious"  # which nobody can choose
        }
        others = [mean for name, mean in means.items() if name != selection.strategy]
        scores = [
            {"strategy": s.strategy, "num_scored": s.num_scored, "mean": s.mean}
            for s in selection.summaries
        ]
        sampling = asking.sampling(rationale.attempt)
        assert said.pop("seed") == (
            0 if not sampling.temperature else seed(rationale, config.run_seed)
        )
        assert said == {
            "group": problem.task,
            "policy": config.selection.policy,
            "reason": selection.reason,
            "scores": scores if means else [],
            "margin": means[selection.strategy] - max(others) if means else 0.0,
            "instruction_sha256": hashlib.sha256(rationale.system.encode()).hexdigest(),
            "teacher": "scripted",
            "teacher_digest": "",
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "attempt": rationale.attempt,
            "engine_version": said["engine_version"],
            "source_file": problem.source_file,
            "source_line": problem.source_line,
            "rationale_unit": said["rationale_unit"],
        }
        assert said["engine_version"].startswith("scripted, orca2-gen ")
        receipt = ledger.units["rationales", said["rationale_unit"]]
        assert rationale in read_records(run_dir, receipt.accepted, Rationale)
    found = verify(run_dir)
    assert found.findings == [] and not [n for n in found.notes if "provenance" in n]


def seed(rationale: Rationale, run_seed: int) -> int:
    key = f"teacher|{rationale.strategy}|0|{rationale.attempt}|{rationale.problem_id}"
    digest = hashlib.blake2b(f"{run_seed}|{key}".encode(), digest_size=7).digest()
    return int(int.from_bytes(digest) / (1 << 56) * (1 << 53)) & 0x7FFFFFFF


def edited(root: Path, change: Callable[[list[Row]], None]) -> None:
    """Changes the provenance of a dataset's first shard, and makes its digests right again."""
    path = root / "manifest.json"
    manifest = json.loads(path.read_text())
    name = manifest["files"][0]["path"]
    with pa.OSFile(str(root / name)) as file, pa.ipc.open_stream(file) as stream:
        batches = list(stream)
    made = []
    for batch in batches:
        rows = batch.column(COLUMN).to_pylist()
        change(rows)
        at = batch.schema.get_field_index(COLUMN)
        column = pa.array(rows, PROVENANCE)
        made.append(batch.set_column(at, batch.schema.field(at), column))
    entry = write_stream(
        root / name, *(b.replace_schema_metadata(batches[0].schema.metadata) for b in made)
    )
    manifest["files"][0] = dataclasses.asdict(entry)
    state = json.dumps(
        state_of([FileEntry(**each) for each in manifest["files"]]), indent=2
    ).encode()
    (root / "state.json").write_bytes(state)
    for each in manifest["descriptions"]:
        if each["path"] == "state.json":
            each |= {"bytes": len(state), "sha256": hashlib.sha256(state).hexdigest()}
    path.write_text(json.dumps(manifest))


def a_score(rows: list[Row]) -> None:
    rows[-1]["scores"][0]["mean"] += 0.25


def the_scores(rows: list[Row]) -> None:
    rows[0]["scores"].pop()


EDITS: dict[str, Callable[[list[Row]], None]] = {"scores": a_score, "fewer scores": the_scores} | {
    name: lambda rows, name=name, value=value: rows[-1].update({name: value})  # type: ignore[misc]
    for name, value in {
        "group": "other",
        "policy": "random",
        "reason": "random",
        "margin": 0.99,
        "instruction_sha256": "0" * 64,
        "teacher": "another",
        "teacher_digest": "1" * 64,
        "temperature": 0.123,
        "top_p": 0.123,
        "seed": 5,
        "attempt": 3,
        "engine_version": "vllm 0.1",
        "source_file": "other.jsonl",
        "source_line": 999,
        "rationale_unit": "sums-999999",
    }.items()
}


@pytest.mark.parametrize("name", EDITS)
def test_an_edited_field_is_found_though_all_digests_are_right(
    whole: Path, tmp_path: Path, name: str
) -> None:
    run_dir = Path(shutil.copytree(whole, tmp_path / "run"))
    edited(run_dir / "dataset", lambda rows: None)
    assert verify(run_dir).findings == []
    edited(run_dir / "dataset", EDITS[name])
    # croissant.json, which lists the shards' digests too, is found beside it.
    [finding] = [each for each in verify(run_dir).findings if " says that its " in each]
    assert f" its {name.rpartition(' ')[2]} is " in finding


@pytest.mark.parametrize("name", ["scores", "margin", "attempt", "seed", "instruction_sha256"])
def test_what_a_row_says_against_itself_is_found_without_its_run(
    whole: Path, tmp_path: Path, name: str
) -> None:
    root = Path(shutil.copytree(whole / "dataset", tmp_path / "moved"))
    assert verify(root).findings == []
    change = EDITS[name]
    if name == "scores":
        change = lambda rows: rows[-1]["scores"][0].update(mean=9.0)  # noqa: E731
    if name == "seed":
        change = lambda rows: [row.update(temperature=0.0, attempt=0, seed=4) for row in rows]  # noqa: E731
    if name == "instruction_sha256":
        change = lambda rows: rows[0].update(instruction_sha256="none")  # noqa: E731
    edited(root, change)
    assert [finding for finding in verify(root).findings if "does not follow" in finding]


def test_sampled_attempts_are_among_the_rows(whole: Path) -> None:
    said = [row[COLUMN] for row in rows_of(whole / "dataset")]
    assert {row["attempt"] > 0 for row in said} == {True, False}
    assert all(
        (row["seed"] > 0) == (row["temperature"] > 0) == (row["attempt"] > 0) for row in said
    )


def test_datasets_opens_it_and_readers_of_examples_pass_over_it(whole: Path) -> None:
    import datasets

    root = whole / "dataset"
    loaded = datasets.load_from_disk(str(root))
    assert [row[COLUMN] for row in loaded] == [row[COLUMN] for row in rows_of(root)]
    examples = committed_rows(read_ledger(whole), "examples", Example)
    assert list(read_examples(root, checked_manifest(root))) == list(examples)
    older_words = features_of(pa.schema([pa.field(COLUMN, PROVENANCE)]))
    assert "List" not in json.dumps(older_words)
    assert datasets.Features.from_dict(older_words).arrow_schema.field(COLUMN).type == PROVENANCE


def test_no_row_tells_a_machines_path(whole: Path) -> None:
    for row in rows_of(whole / "dataset"):
        assert str(whole.parent) not in json.dumps(row[COLUMN])


def test_a_dataset_of_the_layout_before_is_kept_with_a_line(
    whole: Path, tmp_path: Path, chatml_dir: Path
) -> None:
    from orca2_gen.chat import load_chat
    from orca2_gen.dataset.write import DatasetPlan, write_dataset
    from orca2_gen.strategies import load_strategies

    config = load_config(whole.parent / "run.toml", ["rationales.max_attempts=4"])
    ledger = read_ledger(whole)
    run_dir = Path(shutil.copytree(whole, tmp_path / "run"))
    shutil.rmtree(run_dir / "dataset")
    plan = DatasetPlan(
        examples=tuple(receipt.accepted for receipt in ledger.committed("examples")),
        tokenizer=str(chatml_dir),
        prompts="erased",
        examples_per_shard=50_000,
        key="k",
        name="run",
    )
    recorded = read_recorded(whole)
    with_origins = dataclasses.replace(
        plan, origins=unit_origins(ledger), teacher=teacher_facts(recorded, config)
    )
    chat, strategies = load_chat(str(chatml_dir)), load_strategies(None)
    from unittest.mock import patch

    with patch("orca2_gen.dataset.write.SHARD_LAYOUT", 3):
        write_dataset(run_dir, plan, chat, strategies)
    before = {p.name: p.read_bytes() for p in (run_dir / "dataset").iterdir()}
    lines: list[str] = []
    write_dataset(run_dir, with_origins, chat, strategies, lines.append)
    assert {p.name: p.read_bytes() for p in (run_dir / "dataset").iterdir()} == before
    assert len(lines) == 1 and "older version" in lines[0]


def test_units_of_an_older_version_give_rows_that_do_not_know_their_file(
    whole: Path, tmp_path: Path
) -> None:
    from orca2_gen.dataset.origins import examples_provenance

    ledger = read_ledger(whole)
    origin = unit_origins(ledger)[0]
    teacher = TeacherFacts(name="t", digest="", temperature=0.7, top_p=0.9, run_seed=0)
    examples = read_table(whole, ledger.committed("examples")[0].accepted, Example)
    now = examples_provenance(whole, origin, teacher, examples).to_pylist()

    def older(entry: FileEntry, record: type, *lost: str) -> FileEntry:
        table = read_table(whole, entry, record)
        return write_table(
            tmp_path, entry.path, table.drop_columns(lost).replace_schema_metadata(None)
        )

    shutil.copytree(whole / "selections", tmp_path / "selections")
    then = dataclasses.replace(
        origin,
        problems=older(origin.problems, Problem, "source_file", "source_line"),
        rationales=older(origin.rationales, Rationale),
    )
    made = examples_provenance(
        tmp_path, then, teacher, examples.drop_columns(["attempt"])
    ).to_pylist()
    blank = {"source_file": "", "source_line": 0, "engine_version": ""}
    assert made == [row | blank for row in now]


def test_a_unit_of_rationales_says_which_engine_generated_it(whole: Path) -> None:
    for receipt in read_ledger(whole).committed("rationales"):
        about = origin_of(read_table(whole, receipt.accepted).schema)
        assert about is not None and about.engine.startswith("scripted, orca2-gen ")


def test_a_student_that_was_moved_changes_no_byte_of_the_dataset(
    tmp_path: Path, chatml_dir: Path
) -> None:
    file = write_run_config(tmp_path, chatml_dir)
    root = ran(file) / "dataset"
    before = {path.name: (path.stat().st_ino, path.read_bytes()) for path in root.iterdir()}
    moved = shutil.copytree(chatml_dir, tmp_path / "moved")
    ran(file, f"student.tokenizer={moved}", f"teacher.tokenizer={moved}")
    assert before == {path.name: (path.stat().st_ino, path.read_bytes()) for path in root.iterdir()}


def test_a_license_stated_later_changes_no_byte_of_a_written_dataset_and_stands_in_the_next(
    tmp_path: Path, chatml_dir: Path
) -> None:
    file = write_run_config(tmp_path, chatml_dir)
    run_dir = ran(file)
    root = run_dir / "dataset"
    before = {path.name: (path.stat().st_ino, path.read_bytes()) for path in root.iterdir()}
    stated = ("tasks.0.license=mit", "tasks.0.language=fr", "teacher.license=gemma")
    for _ in range(2):
        ran(file, *stated)
        after = {path.name: (path.stat().st_ino, path.read_bytes()) for path in root.iterdir()}
        assert before == after and verify(run_dir).findings == []
    shutil.rmtree(root)
    ran(file, *stated)
    card = (root / "README.md").read_text()
    assert "gemma" in card and "mit" in card
    assert verify(run_dir).findings == []


def test_a_teacher_that_was_moved_keeps_its_name(whole: Path, chatml_dir: Path) -> None:
    recorded = read_recorded(whole)
    config = read_config(whole / "config.json")
    model = config.model_copy(
        update={"teacher": VLLMEngineConfig.model_construct(model=str(chatml_dir / "elsewhere"))}
    )
    assert recorded.about is not None
    assert teacher_facts(recorded, model).name == recorded.about.models["teacher"].name
