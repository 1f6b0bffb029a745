"""Runs whose inputs are edited while they go on."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from orca2_gen.config.load import load_config
from orca2_gen.config.schema import Config
from orca2_gen.exit_codes import FAILED, exit_code
from orca2_gen.provenance.verify import verify
from orca2_gen.records import Rationale
from orca2_gen.run_directory.digests import ChangedInput
from orca2_gen.run_directory.ledger import committed_rows, read_ledger
from orca2_gen.strategies import OWN_FILE, load_strategies
from ray_jobs.pipeline import (
    build_dataset,
    erase,
    judge_answers,
    read_tasks,
    run_all,
    score_student,
    select_strategies,
    teach,
)
from ray_jobs.run import Run, open_run
from tests.conftest import FinishedRun, Write, quiet

pytestmark = pytest.mark.usefixtures("local_ray")

STAGES: list[Callable[[Run], object]] = [
    read_tasks,
    score_student,
    judge_answers,
    select_strategies,
    teach,
    erase,
    build_dataset,
]


@pytest.fixture
def config(write_config: Write, tmp_path: Path, chatml_dir: Path) -> Config:
    """A run's config whose strategies, taxonomy and tokenizer may be edited."""
    shutil.copy(OWN_FILE, tmp_path / "own.toml")
    (tmp_path / "taxonomy.toml").write_text('[sums]\ncategory = "arithmetic"\n')
    tokenizer = shutil.copytree(chatml_dir, tmp_path / "tokenizer")
    sets = [f"strategies={tmp_path / 'own.toml'}", f"taxonomy={tmp_path / 'taxonomy.toml'}"]
    sets += [f"{role}.tokenizer={tokenizer}" for role in ("student", "teacher")]
    return load_config(write_config(), sets)


@pytest.mark.parametrize("num_done", [0, 1, 4], ids=["reading", "scoring", "teaching"])
def test_a_strategies_file_edited_while_a_run_goes_on_changes_no_row(
    config: Config, tmp_path: Path, num_done: int
) -> None:
    own = tmp_path / "own.toml"
    texts = load_strategies(str(own))
    with open_run(config, quiet) as run:
        for stage in STAGES[:num_done]:
            stage(run)
        for name, text in texts.instructions.items():
            own.write_text(own.read_text().replace(text[:40], f"Edited {name}. {text[:40]}"))
        (tmp_path / "taxonomy.toml").write_text('[sums]\ncategory = "other"\n')
        assert load_strategies(str(own)).instructions != texts.instructions
        for stage in STAGES[num_done:]:
            stage(run)
    rationales = committed_rows(read_ledger(run.run_dir), "rationales", Rationale)
    assert rationales
    assert {r.system for r in rationales} <= set(texts.instructions.values())
    found = verify(run.run_dir)
    assert found.findings == []
    assert any("own.toml has changed since" in note for note in found.notes)
    with pytest.raises(ValueError, match="made differently"), open_run(config, quiet):
        pass


def test_a_template_edited_before_the_teacher_starts_ends_the_run_and_restored_it_goes_on(
    config: Config, undisturbed: FinishedRun, tmp_path: Path
) -> None:
    template = tmp_path / "tokenizer" / "chat_template.jinja"
    body = template.read_text()
    with open_run(config, quiet) as run:
        for stage in STAGES[:4]:
            stage(run)
        template.write_text(body.replace("user", "User") + "{{ '!' }}")
        with pytest.raises(ChangedInput, match="tokenizer has changed since") as caught:
            teach(run)
        assert "\n" not in str(caught.value) and exit_code(caught.value) == FAILED
        assert run.ledger.committed("rationales") == []
    template.write_text(body)
    with open_run(config, quiet) as run:
        run_all(run)
    assert verify(run.run_dir).findings == []


def test_rows_made_with_other_texts_than_recorded_are_found(
    undisturbed: FinishedRun, run_copy: Path
) -> None:
    """An edited strategies file had this effect before the texts were read only once."""
    config_file = run_copy / "config.json"
    recorded = config_file.read_text()
    text = load_strategies(None).instructions["step_by_step"]
    assert text in recorded
    config_file.write_text(recorded.replace(text, f"Edited. {text}"))
    findings = verify(run_copy).findings
    assert any("made with other strategies" in finding for finding in findings), findings
