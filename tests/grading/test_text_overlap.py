from __future__ import annotations

import itertools
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca2_gen.grading.text_overlap import MAX_ROUGE_CHARS, best_pairing, rouge_l, span_f1

WORDS = st.lists(st.sampled_from(["red", "green", "the", "a", "7", "blue-ish"]), max_size=6).map(
    " ".join
)


@pytest.mark.parametrize(
    ("gold", "answer", "f1"),
    [
        ("Denver Broncos", "the denver broncos!", 1.0),
        ("Denver Broncos", "Broncos", 0.67),
        ("New York Jets", "New York Giants", 0.67),
        ("17", "17.0", 1.0),
        ("17 yards", "18 yards", 0.0),
        ("17 yards", "yards", 0.0),
        ("yards", "17 yards", 0.67),
        ("3", "three", 0.0),  # DROP's rule reads no number words
        ("Spain\nFrance", "France and Spain", 1.0),
        ("Spain\nFrance", "Spain", 0.5),
        ("Spain\nFrance", "Spain, France, Peru, Chile", 0.5),
        ("Denver Broncos\nPanthers", "the Broncos, Panthers", 0.83),
        ("a", "the", 1.0),  # two empty bags
    ],
)
def test_span_f1_is_drops(gold: str, answer: str, f1: float) -> None:
    assert span_f1(gold, answer) == f1


@given(gold=WORDS, answer=WORDS)
def test_both_measures_lie_between_zero_and_one_and_are_one_for_the_text_itself(
    gold: str, answer: str
) -> None:
    assert 0.0 <= span_f1(gold, answer) <= 1.0
    assert span_f1(gold, gold) == 1.0
    score = rouge_l(gold, answer)
    assert (score is None) == (not gold)
    assert score is None or 0.0 <= score <= 1.0
    assert not gold or rouge_l(gold, gold) == 1.0


@given(
    scores=st.integers(1, 4).flatmap(
        lambda width: st.lists(
            st.lists(st.floats(0, 1), min_size=width, max_size=width), min_size=1, max_size=4
        )
    )
)
def test_spans_are_paired_for_the_highest_sum(scores: list[list[float]]) -> None:
    if len(scores) > len(scores[0]):
        scores = [list(column) for column in zip(*scores, strict=True)]
    rows, columns = range(len(scores)), range(len(scores[0]))
    best = max(
        sum(scores[row][place[row]] for row in rows)
        for place in itertools.permutations(columns, len(scores))
    )
    assert best_pairing(scores) == pytest.approx(best)
    assert best_pairing(list(zip(*scores, strict=True))) == pytest.approx(best)


def test_rouge_l_knows_word_order_and_stems() -> None:
    assert rouge_l("the bees remember faces", "the bee remembered face") == 1.0
    assert rouge_l("one two three four", "four three two one") == 0.25
    assert rouge_l("The cat sat.", "A cat sat on the mat.") == pytest.approx(4 / 9)


def test_what_rouge_cannot_read_or_would_take_too_long_over_has_no_score() -> None:
    assert rouge_l("\u6a4b", "bridge") is None
    assert rouge_l("bridge", "x" * (MAX_ROUGE_CHARS + 1)) is None
    assert rouge_l("a " * 2_000, "b-" * 2_000) is None


def test_rouge_needs_no_download(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("rouge-score reached for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    rouge_l.__globals__["_rouge_scorer"].cache_clear()
    assert rouge_l("bees remember", "bees remember faces") == pytest.approx(0.8)
