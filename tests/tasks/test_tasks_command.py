"""`orca2 tasks`: counts, kinds, rejections and samples, with the reasons."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner

from orca2_gen.commands.inspection import tasks
from tests.tasks.reading import DATA, line, published, sample_file


def run(*arguments: object) -> str:
    found = CliRunner().invoke(tasks, list(map(str, arguments)), catch_exceptions=False)
    assert found.exit_code == 0, found.output
    return found.output


def test_it_counts_problems_by_kind_and_rejections_by_reason(tmp_path: Path) -> None:
    path = tmp_path / "mix.jsonl"
    path.write_text(line() * 2 + line(choices=["a", "b"], answer="A") + "{\n" * 5)
    said = run(path, "--show", 2)
    assert "mix: 8 rows read, 3 accepted, 5 rejected (5 not_json); 2 exact, 1 multiple" in said
    assert said.count("not_json: ") == 2 and "mix.jsonl:4 not_json" in said


def test_it_says_why_fewer_rows_came_than_were_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "mix.jsonl"
    path.write_text(line() * 254)
    said = run(path, "--rows-per-task", 500)
    assert "task: asked 500, got 254: it holds 254 rows" in said and "passed over" not in said
    assert "54 passed over" in run(path, "--rows-per-task", 200)


def test_it_takes_columns_a_taxonomy_and_a_directory(tmp_path: Path) -> None:
    folder = tmp_path / "rows"
    folder.mkdir()
    rows = [line(prompt=f"{i}?", kind="ab"[i % 2]) for i in range(20)]
    (folder / "a.jsonl").write_text("".join(rows))
    mapped = ("--columns", "question=prompt", "--columns", "question=kind")
    said = run(folder, *mapped, "--columns", "answer=answer", "--columns", "category=kind",
               "--rows-per-category", 3)  # fmt: skip
    assert (
        "rows: 6 rows read, 6 accepted, 0 rejected, 14 passed over by the sample; 6 exact" in said
    )
    (tmp_path / "taxonomy.toml").write_text('[rows]\ncategory = "x"')
    said = run(folder, "--taxonomy", tmp_path / "taxonomy.toml", "--rows-per-category", 3)
    assert "rows: 3 rows read, 3 accepted" in said


def test_it_reads_a_document_format(tmp_path: Path) -> None:
    said = run(sample_file(tmp_path, "bbh"), "--format", "bbh")
    assert (
        "fruits: 3 rows read, 3 accepted, 0 rejected; 1 multiple_choice, 1 yes_no, 1 exact" in said
    )


def test_it_explains_every_rejection_of_the_published_agieval_files() -> None:
    published("agieval_sat-en.jsonl")
    said = run("--format", "agieval", "--show", 9, *sorted(DATA.glob("agieval_*.jsonl")))
    assert "agieval_aqua-rat: 254 rows read, 250 accepted, 4 rejected (4 duplicate_gold)" in said
    assert said.count(" duplicate_gold: ") == 4 and said.count(", 0 rejected") == 6
