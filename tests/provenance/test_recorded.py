from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca2_gen.provenance.about import About, FileAbout
from orca2_gen.provenance.recorded import differences, read_recorded, record_stages
from orca2_gen.run_directory.ledger import read_ledger, stage_key
from orca2_gen.strategies import load_strategies
from tests.run_directory.test_ledger import json_values, receipt_of

STRATEGIES = load_strategies(None)
DETERMINANTS = {
    "problems": {"rows_per_unit": 8, "tasks": {"sums": {"sha256": "a"}}},
    "scores": {"max_tokens": 9},
}


KEYS = {"problems": "k", "scores": "s"}


def test_changed_determinants_of_committed_units_are_refused_with_the_difference(
    tmp_path: Path,
) -> None:
    ledger = read_ledger(tmp_path, writable=True)
    record_stages(ledger, {}, DETERMINANTS, KEYS, STRATEGIES)
    ledger.commit([receipt_of(tmp_path, "sums-000000")])
    record_stages(ledger, {}, DETERMINANTS, KEYS, STRATEGIES)
    changed = {**DETERMINANTS, "problems": {"rows_per_unit": 8, "tasks": {"sums": {"sha256": "b"}}}}
    with pytest.raises(
        ValueError, match=r'holds problems made differently: tasks.sums.sha256: "a" -> "b"'
    ):
        record_stages(ledger, {}, changed, {**KEYS, "problems": "other"}, STRATEGIES)
    # What is not committed yet may change.
    later = {**DETERMINANTS, "scores": {"max_tokens": 1}}
    record_stages(ledger, {}, later, {**KEYS, "scores": "t"}, STRATEGIES)


def test_units_of_an_equal_key_are_kept_where_no_config_was_recorded(tmp_path: Path) -> None:
    ledger = read_ledger(tmp_path, writable=True)
    ledger.commit([receipt_of(tmp_path, "sums-000000")])
    record_stages(ledger, {}, DETERMINANTS, KEYS, STRATEGIES)
    assert json.loads((tmp_path / "config.json").read_text())["stages"] == DETERMINANTS


@given(previous=st.text(max_size=5), one=json_values, two=json_values)
def test_stage_keys_are_equal_exactly_if_determinants_and_the_key_before_are(
    previous: str, one: object, two: object
) -> None:
    assert (stage_key(previous, {"a": one}) == stage_key(previous, {"a": two})) == (one == two)
    assert stage_key(previous, {"a": one}) != stage_key(previous + "x", {"a": one})
    assert (differences({"a": one}, {"a": two}) == "") == (one == two)


def test_a_long_difference_is_cut_and_counted() -> None:
    old = {f"key{n}": "x" * 200 for n in range(9)}
    shown = differences(old, dict.fromkeys(old, "y"))
    assert "(and 4 more)" in shown and len(shown) < 600


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ({"grader": 3}, {"grader": 4}, "by another version of this program: GRADER_VERSION 3 -> 4"),
        ({"race": {"blocks": [1024, 64]}}, {"race": {"blocks": [2048, 64]}}, "race.blocks: [1024"),
        ({"instructions": {"calls": "a"}}, {"instructions": {"calls": "b"}}, 'calls: "a" -> "b"'),
        ({"grader": 3, "x": 1}, {"grader": 4, "x": 2}, "GRADER_VERSION: 3 -> 4; "),
        (
            {"rooms": {"judge": ["d", 9, 9, 9, 1]}},
            {"rooms": {"judge": ["d", 9, 9, 9, 2]}},
            "JUDGING_VERSION 1 -> 2",
        ),
        ({"few_shot": {"text": 1}}, {"few_shot": {"text": 2}}, "SHOTS_VERSION 1 -> 2"),
    ],
)
@pytest.mark.parametrize("stage", ["problems", "scores"])
def test_a_refused_resume_names_a_version_exactly_where_one_was_raised(
    tmp_path: Path, old: dict[str, object], new: dict[str, object], said: str, stage: str
) -> None:
    ledger = read_ledger(tmp_path, writable=True)
    ledger.commit([receipt_of(tmp_path, "sums-000000")])  # of the problems, under the key "k"
    before = {"problems": {}, "scores": {}, stage: old}
    record_stages(ledger, {}, before, KEYS, STRATEGIES)
    with pytest.raises(ValueError) as caught:
        record_stages(ledger, {}, {**before, stage: new}, {**KEYS, "problems": "x"}, STRATEGIES)
    assert said in str(caught.value) and "\n" not in str(caught.value)
    only_versions = "_VERSION" in said and not said.endswith("; ")
    assert ("by another version" in str(caught.value)) == only_versions


def test_a_written_dataset_keeps_its_licenses_and_a_line_says_how_to_state_others(
    tmp_path: Path,
) -> None:
    ledger = read_ledger(tmp_path, writable=True)

    def recorded(license: str) -> tuple[str, str]:
        task = FileAbout(name="sums", file="sums.jsonl", license=license)
        about = About(models={}, tasks={"sums": task}, held_out=(), settings={})
        line = record_stages(ledger, {}, DETERMINANTS, KEYS, STRATEGIES, about)
        kept = read_recorded(tmp_path).about
        assert kept is not None
        return kept.tasks["sums"].license, line

    assert recorded("mit") == ("mit", "")
    assert recorded("gemma") == ("gemma", "")
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset" / "manifest.json").write_text("{}")
    assert recorded("gemma") == ("gemma", "")
    license, line = recorded("mit")
    assert license == "gemma" and "remove it and run again" in line
