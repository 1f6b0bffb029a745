"""Overlap of an answer with a gold text, from 0 to 1: DROP's F1 for spans, ROUGE-L for summaries.

    span_f1("Carolina Panthers\nDenver Broncos", "the Panthers and Denver Broncos")  0.83
    rouge_l("The cat sat.", "A cat sat on the mat.")                                 0.44

Neither understands the text: a flipped `not` costs one word.
"""

from __future__ import annotations

import functools
import re
import string
from collections.abc import Sequence
from typing import Any

from orca2_gen.grading.answers import split_items

MAX_SPANS = 40
"""Most spans in one answer: more are no answer, and their alignment takes cubic time."""
MAX_ROUGE_CELLS = 1_000_000
"""Gold words times answer words: ROUGE-L's table, a quarter of a second on one core."""
MAX_ROUGE_CHARS = 40_000
"""Characters of either text; stemming more words takes as long."""

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ROUGE_WORD = re.compile(r"[a-z0-9]+", re.IGNORECASE | re.ASCII)
_DROP_WORDS = re.compile(r"[ -]")
_DROP_ARTICLES = re.compile(r"\b(?:a|an|the)\b")


def span_f1(gold: str, answer: str) -> float:
    """DROP's F1 of an answer against a gold of one span, or of several, one per line.

    The rule is that of DROP's own evaluation, https://github.com/allenai/
    allennlp-reading-comprehension/blob/master/allennlp_rc/eval/drop_eval.py: words are compared in
    lower case, without punctuation and articles, numbers by value (number words are not read); two
    spans that share no number score 0 if the gold one has any; spans are paired one to one for the
    highest sum, which is divided by the larger count and rounded to two digits. An answer is one
    span, unless the gold has several: then it is split like a list.
    """
    golds = _gold_bags(gold)
    if len(golds) == 1:
        return round(_bag_f1(golds[0], _bag(answer)), 2)
    spans = split_items(answer, len(golds))
    if not 0 < len(spans) <= MAX_SPANS or len(golds) > MAX_SPANS:
        return 0.0
    bags = [_bag(span) for span in spans]
    scores = [[_bag_f1(gold_bag, bag) for bag in bags] for gold_bag in golds]
    return round(best_pairing(scores) / max(len(golds), len(spans)), 2)


@functools.lru_cache(maxsize=65_536)
def _gold_bags(gold: str) -> tuple[frozenset[str], ...]:
    return tuple(map(_bag, gold.split("\n")))


def _bag(span: str) -> frozenset[str]:
    words: list[str] = []
    for word in _DROP_WORDS.split(span.lower()):
        number = _as_number(word)
        if number is None:
            word = word.translate(_PUNCTUATION)
            number = _as_number(word)
        words += _DROP_ARTICLES.sub(" ", word).split() if number is None else [number]
    return frozenset(words)


@functools.lru_cache(maxsize=65_536)
def _as_number(word: str) -> str | None:
    try:
        return str(float(word))
    except ValueError:
        return None


def _bag_f1(gold: frozenset[str], answer: frozenset[str]) -> float:
    numbers = {word for word in gold if _as_number(word) is not None}
    if numbers and numbers.isdisjoint(answer):
        return 0.0
    shared = len(gold & answer)
    precision = shared / len(answer) if answer else 1.0
    recall = shared / len(gold) if gold else 1.0
    return 2 * precision * recall / (precision + recall) if precision or recall else 0.0


def best_pairing(scores: Sequence[Sequence[float]]) -> float:
    """The highest sum of a one-to-one pairing of rows and columns (Hungarian method)."""
    if len(scores) > len(scores[0]):
        scores = list(zip(*scores, strict=True))
    num_rows, num_columns = len(scores), len(scores[0])
    of_row, of_column = [0.0] * (num_rows + 1), [0.0] * (num_columns + 1)  # the dual prices
    paired = [0] * (num_columns + 1)  # column -> its row; rows and columns count from 1
    for row in range(1, num_rows + 1):
        paired[0], column = row, 0
        slack, before = [float("inf")] * (num_columns + 1), [0] * (num_columns + 1)
        seen: set[int] = set()
        while paired[column]:
            seen.add(column)
            current = paired[column]
            for other in set(range(1, num_columns + 1)) - seen:
                cost = -scores[current - 1][other - 1] - of_row[current] - of_column[other]
                if cost < slack[other]:
                    slack[other], before[other] = cost, column
            nearest = min(set(range(1, num_columns + 1)) - seen, key=slack.__getitem__)
            step = slack[nearest]
            for other in range(num_columns + 1):
                if other in seen:
                    of_row[paired[other]] += step
                    of_column[other] -= step
                else:
                    slack[other] -= step
            column = nearest
        while column:
            paired[column] = paired[before[column]]
            column = before[column]
    return sum(scores[row - 1][column - 1] for column, row in enumerate(paired) if row and column)


@functools.lru_cache(maxsize=1)
def _rouge_scorer() -> Any:
    # Imported on the first summary: nltk takes half a second, and other tasks do not need it.
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rougeL"], use_stemmer=True)


def rouge_l(gold: str, answer: str) -> float | None:
    """The ROUGE-L F-measure with Porter's stemmer, by rouge-score.

    None if the gold has no word in Latin letters, the only ones that rouge-score reads, or a text
    is too long (MAX_ROUGE_CHARS, MAX_ROUGE_CELLS).
    """
    if max(len(gold), len(answer)) > MAX_ROUGE_CHARS:
        return None
    num_gold_words, num_words = (len(_ROUGE_WORD.findall(text)) for text in (gold, answer))
    if not 0 < num_gold_words * max(1, num_words) <= MAX_ROUGE_CELLS:
        return None
    return float(_rouge_scorer().score(gold, answer)["rougeL"].fmeasure)
