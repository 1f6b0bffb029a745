from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from orca2_gen.records import Example
from orca2_gen.report.samples import passages, sample_rows
from orca2_gen.run_directory.ledger import committed_rows, read_ledger
from tests.conftest import FinishedRun

TEXT = st.text(alphabet="ab \n\t<>&", max_size=60)


@given(saw=TEXT, trains=TEXT)
def test_passages_are_the_text_and_what_is_kept_stands_in_the_other(saw: str, trains: str) -> None:
    found = list(passages(saw, trains))
    assert "".join(each.text for each in found) == saw
    kept = [word for each in found if not each.is_erased for word in each.text.split()]
    left = iter(trains.split())
    assert all(word in left for word in kept)  # in this order


@given(text=TEXT)
def test_nothing_is_erased_of_a_text_that_stays(text: str) -> None:
    assert not any(each.is_erased for each in passages(text, text))


def test_samples_come_from_every_task_and_say_what_the_student_trains_on(
    undisturbed: FinishedRun,
) -> None:
    ledger = read_ledger(undisturbed.run_dir)
    examples = {row.problem_id: row for row in committed_rows(ledger, "examples", Example)}
    found = sample_rows(ledger, 6)
    assert len(found) == 6 and len({row.name for row in found}) == 6
    assert {row.task for row in found} == {example.task for example in examples.values()}
    for row in found:
        trained = {m.role: m.content for m in examples[row.problem_id].messages}
        assert {turn.role: turn.trains for turn in row.turns if turn.trains} == trained
        erased = [part for turn in row.turns for part in turn.saw if part.is_erased]
        assert erased and all(turn.role == "system" for turn in row.turns if turn.saw[0].is_erased)


def test_there_are_no_more_samples_than_rows(undisturbed: FinishedRun) -> None:
    ledger = read_ledger(undisturbed.run_dir)
    assert len(sample_rows(ledger, 10_000)) == len(committed_rows(ledger, "examples", Example))
