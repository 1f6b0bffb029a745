from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from train.packing import pack

LENGTHS = st.lists(st.integers(1, 50), min_size=1, max_size=200)


@given(LENGTHS, st.integers(50, 90), st.integers(0, 3))
def test_packing_keeps_every_example_once(lengths: list[int], seq_len: int, seed: int) -> None:
    packing = pack(lengths, seq_len=seq_len, seed=seed)
    assert sorted(index for row in packing.rows for index in row) == list(range(len(lengths)))


@given(LENGTHS, st.integers(50, 90), st.integers(0, 3))
def test_no_row_is_longer_than_seq_len_or_empty(
    lengths: list[int], seq_len: int, seed: int
) -> None:
    for row in pack(lengths, seq_len=seq_len, seed=seed).rows:
        assert row and sum(lengths[index] for index in row) <= seq_len


@given(LENGTHS, st.integers(50, 90), st.integers(0, 3))
def test_fill_is_tokens_over_slots(lengths: list[int], seq_len: int, seed: int) -> None:
    packing = pack(lengths, seq_len=seq_len, seed=seed)
    assert packing.num_tokens == sum(lengths)
    assert packing.fill == sum(lengths) / (len(packing.rows) * seq_len)


@given(LENGTHS, st.integers(50, 90), st.integers(0, 3))
def test_two_rows_that_would_fit_into_one_are_never_left(
    lengths: list[int], seq_len: int, seed: int
) -> None:
    rows = pack(lengths, seq_len=seq_len, seed=seed).rows
    totals = sorted(sum(lengths[index] for index in row) for row in rows)
    assert len(totals) < 2 or totals[0] + totals[1] > seq_len


@given(LENGTHS, st.integers(0, 3))
def test_same_seed_same_rows(lengths: list[int], seed: int) -> None:
    assert pack(lengths, seq_len=64, seed=seed) == pack(lengths, seq_len=64, seed=seed)


def test_another_seed_gives_other_neighbours() -> None:
    lengths = [10] * 60
    assert set(pack(lengths, seq_len=20, seed=0).rows) != set(
        pack(lengths, seq_len=20, seed=1).rows
    )


def test_examples_much_shorter_than_a_row_fill_it_to_97_percent() -> None:
    lengths = [40 + (index * 37) % 160 for index in range(4000)]
    assert pack(lengths, seq_len=2048, seed=0).fill > 0.97


def test_an_example_longer_than_a_row_is_refused_by_name() -> None:
    with pytest.raises(
        ValueError, match=r"gsm8k/train/1 has 65 tokens and a row has 64 \(seq_len\)"
    ):
        names = ["gsm8k/train/0", "gsm8k/train/1", "c"]
        pack([3, 65, 9], seq_len=64, seed=0, name_of=names.__getitem__)


def test_an_example_as_long_as_a_row_takes_it_alone() -> None:
    assert sorted(pack([64, 1, 64], seq_len=64, seed=0).rows) == [(0,), (1,), (2,)]


@pytest.mark.parametrize(("lengths", "message"), [([], "no example"), ([4, 0], "1 has no tokens")])
def test_nothing_to_pack_is_refused(lengths: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pack(lengths, seq_len=64, seed=0)
