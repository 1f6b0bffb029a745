"""`orca2 tasks`: counts, kinds, rejections and samples, with the reasons."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from click.testing import CliRunner

from orca2_gen.commands.inspection import tasks
from tests.tasks.reading import DATA, line, published, sample_file


def run(*arguments: object, exit_code: int = 0) -> str:
    found = CliRunner().invoke(tasks, list(map(str, arguments)), catch_exceptions=False)
    assert found.exit_code == exit_code, found.output
    return found.output


def test_it_counts_problems_by_kind_and_rejections_by_reason(tmp_path: Path) -> None:
    path = tmp_path / "mix.jsonl"
    path.write_text(line() * 2 + line(choices=["a", "b"], answer="A") + "{\n" * 5)
    said = run(path, "--show", 2)
    assert "mix: 3 problems, 5 rejected {'not_json': 5}; 2 exact, 1 multiple_choice" in said
    assert said.count("not_json: ") == 2 and "mix.jsonl:4 not_json" in said
    assert said.endswith("; 8 rows read\n")


def test_a_file_without_rows_or_cut_off_is_a_mistake_and_what_is_not_read_is_told(
    tmp_path: Path,
) -> None:
    for name, content in (("a.jsonl", b""), ("b.jsonl.gz", gzip.compress(b"{}" * 99)[:-3])):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=rf"{name}: (it holds no rows|the gzip data ends)"):
            run(tmp_path / name)
    folder = tmp_path / "rows"
    folder.mkdir()
    for name in ("a.jsonl", "b.jsonl.zst"):
        (folder / name).write_text(line())
    said = run(folder)
    assert "1 of the files in " in said and "b.jsonl.zst" in said and "rows: 1 problems" in said


def test_a_task_without_a_problem_is_exit_code_3_after_everything_is_said(tmp_path: Path) -> None:
    bad, good = tmp_path / "bad.jsonl", tmp_path / "good.jsonl"
    bad.write_text(line(answer=None) * 3)
    good.write_text(line())
    said = run(bad, good, exit_code=3)
    assert "bad: 0 problems, 3 rejected" in said and "good: 1 problems, 0 rejected" in said
    assert run(bad, exit_code=3).count("no_answer") == 4


def test_it_says_why_fewer_rows_came_than_were_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "mix.jsonl"
    path.write_text(line() * 254)
    said = run(path, "--rows-per-task", 500)
    assert "task: asked 500, got 254: it holds 254 rows" in said and "0 passed over" in said
    assert "54 passed over" in run(path, "--rows-per-task", 200)


def test_it_takes_columns_a_taxonomy_and_a_directory(tmp_path: Path) -> None:
    folder = tmp_path / "rows"
    folder.mkdir()
    rows = [line(prompt=f"{i}?", kind="ab"[i % 2]) for i in range(20)]
    (folder / "a.jsonl").write_text("".join(rows))
    mapped = ("--columns", "question=prompt", "--columns", "question=kind")
    said = run(folder, *mapped, "--columns", "answer=answer", "--columns", "category=kind",
               "--rows-per-category", 3)  # fmt: skip
    assert "rows: 6 problems, 0 rejected, 14 passed over; 6 exact" in said
    (tmp_path / "taxonomy.toml").write_text('[rows]\ncategory = "x"')
    said = run(folder, "--taxonomy", tmp_path / "taxonomy.toml", "--rows-per-category", 3)
    assert "rows: 3 problems" in said


def test_it_reads_a_document_format(tmp_path: Path) -> None:
    said = run(sample_file(tmp_path, "bbh"), "--format", "bbh")
    assert "fruits: 3 problems, 0 rejected; 1 multiple_choice, 1 yes_no, 1 exact" in said


def test_it_explains_every_rejection_of_the_published_agieval_files() -> None:
    published("agieval_sat-en.jsonl")
    said = run("--format", "agieval", "--show", 9, *sorted(DATA.glob("agieval_*.jsonl")))
    assert "agieval_aqua-rat: 250 problems, 4 rejected {'duplicate_gold': 4}" in said
    assert said.count(" duplicate_gold: ") == 4 and said.count(", 0 rejected") == 6
