from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from orca2_gen.cli import cli
from orca2_gen.dataset.export_files import Format
from orca2_gen.dataset.origins import COLUMN, StrategyScore, margin_of
from orca2_gen.dataset.shapes import SHAPES, Shape
from orca2_gen.provenance.verify import verify
from tests.conftest import write_run_config
from tests.provenance.test_row_origins import ran, rows_of

ALL = [(shape, format) for shape in SHAPES for format in ("parquet", "jsonl")]


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory, chatml_dir: Path) -> Path:
    return ran(write_run_config(tmp_path_factory.mktemp("origins"), chatml_dir))


def exported(run_dir: Path, out: Path, shape: Shape, format: Format, *options: str) -> list[Any]:
    """The rows of an export, as `datasets` reads them."""
    import datasets

    arguments = ["export", str(run_dir), str(out), "--shape", shape, "--format", format]
    done = CliRunner().invoke(cli, [*arguments, "--no-compare", *options], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert verify(out).findings == []
    return list(datasets.load_dataset(str(out), split="train", cache_dir=str(out.parent / "cache")))


@pytest.mark.parametrize(("shape", "format"), ALL)
def test_an_export_has_the_provenance_only_where_it_is_asked_for(
    run_dir: Path, tmp_path: Path, shape: Shape, format: Format
) -> None:
    plain = exported(run_dir, tmp_path / "plain", shape, format)
    told = exported(run_dir, tmp_path / "told", shape, format, "--provenance")
    assert plain
    assert not any(COLUMN in row for row in plain)
    assert [row.pop(COLUMN) for row in told] == [r[COLUMN] for r in rows_of(run_dir / "dataset")]
    assert told == plain


def test_provenance_that_a_dataset_lacks_cannot_be_exported(run_dir: Path, tmp_path: Path) -> None:
    older = Path(__file__).parents[1] / "older_run" / "RUN" / "dataset"
    done = CliRunner().invoke(
        cli, ["export", str(older), str(tmp_path / "out"), "--provenance", "--no-compare"]
    )
    assert done.exit_code != 0 and not (tmp_path / "out").exists()
    assert "has no column provenance" in f"{done.output}{done.exception}"


MEANS = st.dictionaries(
    st.sampled_from("abcdef"), st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=1
)


@given(means=MEANS, unasked=st.sets(st.sampled_from("xyz")), data=st.data())
def test_a_margin_is_the_lead_over_the_best_other_that_was_scored(
    means: dict[str, float], unasked: set[str], data: st.DataObject
) -> None:
    chosen = data.draw(st.sampled_from(sorted(means)))
    scores = [StrategyScore(strategy=n, num_scored=9, mean=m) for n, m in means.items()]
    scores += [StrategyScore(strategy=name, num_scored=0, mean=0.0) for name in unasked]
    margin = margin_of(scores, chosen)
    if len(means) == 1:
        assert margin == 0.0
    else:
        assert all(means[chosen] - margin >= m for name, m in means.items() if name != chosen)
        assert means[chosen] - margin in [m for name, m in means.items() if name != chosen]


def test_a_line_of_an_export_is_one_document(run_dir: Path, tmp_path: Path) -> None:
    exported(run_dir, tmp_path / "out", "messages", "jsonl", "--provenance")
    [file] = (tmp_path / "out").glob("*.jsonl")
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert [row[COLUMN]["margin"] for row in rows] == [
        row[COLUMN]["margin"] for row in rows_of(run_dir / "dataset")
    ]
