"""Several rationales of a problem, from the teacher to the row."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from orca2_gen.dataset.manifest import checked_manifest, read_examples
from orca2_gen.provenance.verify import verify
from orca2_gen.records import Rationale
from orca2_gen.run_directory.ledger import committed_rows, read_ledger
from tests.ray_jobs.several import Said, config_file, play

RIGHT = (
    "Answer: 7",
    "Let us see. Answer: 7",
    "It is seven.\nAnswer: 7",
    "See.  Let us.\nAnswer: 7",
)
answers = st.sampled_from([*RIGHT, "Answer: 8", "", "I do not know."])
MOST = 4
teachers = st.dictionaries(
    st.sampled_from([f"p{number}" for number in range(7)]),
    st.lists(answers, min_size=MOST, max_size=MOST),
    min_size=1,
)


def accepted(said: list[str], most: int) -> list[int]:
    """The attempts that are taught, by a count of their own."""
    found: dict[str, int] = {}
    for attempt, text in enumerate(said):
        if text.endswith("Answer: 7") and " ".join(text.split()) not in found:
            found[" ".join(text.split())] = attempt
        if len(found) == most:
            break
    return list(found.values())


@settings(max_examples=25)
@given(said=teachers, most=st.integers(1, MOST))
def test_every_accepted_answer_becomes_one_row_and_the_run_is_whole(said: Said, most: int) -> None:
    expected = {
        (f"sums/train/{own}", attempt)
        for own, texts in said.items()
        for attempt in accepted(list(texts), most)
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = config_file(folder, said)
        limits = ("dispatch.max_rejection_rate=1.0", f"rationales.per_problem={most}")
        summary = play(file, folder / "run", said, *limits)
        rationales = committed_rows(read_ledger(folder / "run"), "rationales", Rationale)
        assert Counter((row.problem_id, row.attempt) for row in rationales) == Counter(expected)
        root = folder / "run" / "dataset"
        rows = list(read_examples(root, checked_manifest(root)))
        assert Counter((row.problem_id, row.attempt) for row in rows) == Counter(expected)
        assert summary.rows == len(expected)
        assert summary.problems == len({problem_id for problem_id, _ in expected})
        found = verify(folder / "run")
        assert (found.findings, found.notes) == ([], [])
        assert [message.findings for message in [verify(root)]] == [[]]
        table = {stage: counts for stage, *counts in found.table}
        if rationales:
            assert table["rationales"] == [
                len(said), summary.problems, len(said) - summary.problems, 0,
            ]  # fmt: skip
            assert table["examples"] == [summary.rows, summary.rows, 0, 0]
