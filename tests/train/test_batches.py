"""Shapes: B rows, T tokens per row, V vocabulary."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import LlamaForCausalLM

from train.batches import (
    IGNORE_INDEX,
    PADDING_INDEX,
    Batch,
    Encoded,
    ForwardPass,
    PackedExamples,
    build_batch,
    encoded,
    packed_batches,
    stream_rows,
)
from train.layouts import Layout
from train.loss import LabelledLoss
from train.packing import Packing, pack

BuildExample = Callable[..., Encoded]
BuildLlama = Callable[..., LlamaForCausalLM]
SEQ_LEN = 64


def logits_BTV(model: LlamaForCausalLM, batch: Batch) -> torch.Tensor:
    model.eval()
    rows = only_pass(batch)
    with torch.no_grad():
        return model(
            input_ids=rows.input_ids_BT, position_ids=rows.position_ids_BT, use_cache=False
        ).logits


def only_pass(batch: Batch) -> ForwardPass:
    [rows] = batch.passes
    return rows


def pack_examples(examples: list[Encoded]) -> Packing:
    return pack([len(e.input_ids) for e in examples], seq_len=SEQ_LEN, seed=0)


def mixed(examples: list[Encoded], *weights: float) -> list[PackedExamples]:
    """Parts of these examples with these weights; one of weight 1 if there are none."""
    packing = pack_examples(examples)
    return [
        PackedExamples(examples=examples, packing=packing, weight=weight)
        for weight in weights or (1.0,)
    ]


def of_rows(num_rows: int, weight: float = 1.0) -> PackedExamples:
    packing = Packing(rows=((0,),) * num_rows, seq_len=8, num_tokens=num_rows)
    return PackedExamples(examples=[], packing=packing, weight=weight)


def test_labels_cover_the_assistant_turn_only(build_example: BuildExample) -> None:
    chat, end_of_turn = build_example((5, 6, 7, 8, 2), 3), 2
    batch = build_batch([[chat]], seq_len=8)
    ignored = IGNORE_INDEX
    assert only_pass(batch).labels_BT.tolist() == [
        [ignored, ignored, ignored, 8, end_of_turn, *[PADDING_INDEX] * 3]
    ]
    assert (batch.num_labelled_tokens, batch.num_tokens) == (2, 5)


@pytest.mark.parametrize("num_prompt_tokens", [0, 1])
def test_a_plain_document_is_labelled_from_its_second_token(
    build_example: BuildExample, num_prompt_tokens: int
) -> None:
    batch = build_batch(
        [[build_example((5, 6), 1), build_example((7, 8, 9), num_prompt_tokens)]], 6
    )
    ignored = IGNORE_INDEX
    assert only_pass(batch).labels_BT.tolist() == [[ignored, 6, ignored, 8, 9, PADDING_INDEX]]
    assert batch.num_labelled_tokens == 3


def test_positions_restart_with_each_example_and_stay_zero_in_the_padding(
    build_example: BuildExample,
) -> None:
    batch = build_batch([[build_example((5, 6, 7), 1), build_example((8, 9), 1)]], seq_len=8)
    assert only_pass(batch).position_ids_BT.tolist() == [[0, 1, 2, 0, 1, 0, 0, 0]]


@pytest.mark.parametrize("attn_implementation", ["sdpa", "eager"])
def test_no_attention_across_packed_examples(
    build_llama: BuildLlama,
    build_example: BuildExample,
    vocab_size: int,
    attn_implementation: str,
) -> None:
    model = build_llama(attn_implementation)
    generator = torch.Generator().manual_seed(1)
    rows = [
        [
            build_example(tuple(torch.randint(vocab_size, (n,), generator=generator).tolist()), 1)
            for n in lengths
        ]
        for lengths in ([9, 1, 12, 5], [20, 12], [32])
    ]
    before = logits_BTV(model, build_batch(rows, seq_len=32))
    for b, row in enumerate(rows):
        start = 0
        for index, changed in enumerate(row):
            end = start + len(changed.input_ids)
            other_ids = (changed.input_ids + 1) % vocab_size
            other_row = [*row[:index], build_example(other_ids, 1), *row[index + 1 :]]
            after = logits_BTV(model, build_batch([*rows[:b], other_row, *rows[b + 1 :]], 32))
            moved_BT = (after - before).abs().amax(-1) > 1e-5
            assert moved_BT[b, start:end].all()
            moved_BT[b, start:end] = False
            assert not moved_BT.any()
            start = end


def test_padding_is_attended_by_no_example(
    build_llama: BuildLlama, build_example: BuildExample
) -> None:
    model = build_llama()
    row = [build_example((5, 6, 7), 1), build_example((8, 9), 1)]
    batch = build_batch([row, row], seq_len=12)
    before = logits_BTV(model, batch)
    only_pass(batch).input_ids_BT[:, 5:] = 33
    after = logits_BTV(model, batch)
    torch.testing.assert_close(after[:, :5], before[:, :5], rtol=0, atol=1e-6)


@pytest.mark.parametrize("attn_implementation", ["sdpa", "eager"])
def test_loss_packed_equals_loss_unpacked(
    build_llama: BuildLlama, examples: list[Encoded], attn_implementation: str
) -> None:
    model = build_llama(attn_implementation)
    rows = [[examples[i] for i in row] for row in pack_examples(examples).rows]
    batch = build_batch(rows, SEQ_LEN)
    whole = only_pass(batch)
    packed = LabelledLoss(model)(whole.input_ids_BT, whole.labels_BT, whole.position_ids_BT)
    unpacked, num_labels = 0.0, 0
    for one in examples:
        input_ids_BT = torch.tensor(one.input_ids).unsqueeze(0)
        labels_BT = torch.tensor(one.labels).unsqueeze(0)
        count = int((labels_BT[:, 1:] != IGNORE_INDEX).sum())
        # transformers' own loss, a mean over the shifted labels
        unpacked += model(input_ids=input_ids_BT, labels=labels_BT).loss.item() * count
        num_labels += count
    assert batch.num_labelled_tokens == num_labels
    assert packed.item() == pytest.approx(unpacked, rel=1e-4)


@pytest.mark.parametrize("layout", ["packed", "apart", "alone"])
@pytest.mark.parametrize("rows_per_forward", [None, 1, 2])
def test_a_batch_holds_the_same_examples_and_labels_in_every_layout(
    examples: list[Encoded], layout: Layout, rows_per_forward: int | None
) -> None:
    rows = [[examples[i] for i in row] for row in pack_examples(examples).rows]
    batch = build_batch(rows, SEQ_LEN, layout=layout, rows_per_forward=rows_per_forward)
    found = [ids for each in batch.passes for ids in examples_in(each, layout)]
    assert sorted(found) == sorted(labelled(example) for example in examples)
    assert sum(int((each.labels_BT >= 0).sum()) for each in batch.passes) == (
        batch.num_labelled_tokens
    )
    most = SEQ_LEN * (rows_per_forward or len(rows))
    assert all(each.labels_BT.numel() <= most for each in batch.passes)


def labelled(example: Encoded) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The ids of an example and those of them with a label."""
    return tuple(example.input_ids.tolist()), tuple(
        label for label in example.labels.tolist() if label != IGNORE_INDEX
    )


def examples_in(rows: ForwardPass, layout: Layout) -> Iterator[tuple[Any, ...]]:
    """The ids and labels of each example in a pass, told apart by their positions."""
    for ids, labels, positions in zip(
        *(each.tolist() for each in (rows.input_ids_BT, rows.labels_BT, rows.position_ids_BT)),
        strict=True,
    ):
        starts = [i for i, position in enumerate(positions) if position == 0]
        assert layout == "packed" or starts == [0]
        for start, end in zip(starts, [*starts[1:], len(ids)], strict=True):
            kept = [i for i in range(start, end) if labels[i] != PADDING_INDEX]
            if kept:
                assert [positions[i] for i in kept] == list(range(len(kept)))
                yield (
                    tuple(ids[i] for i in kept),
                    tuple(labels[i] for i in kept if labels[i] != IGNORE_INDEX),
                )


@pytest.mark.parametrize("layout", ["apart", "alone"])
def test_the_gradients_of_a_batch_are_those_of_packed_rows_in_every_layout(
    build_llama: BuildLlama, examples: list[Encoded], layout: Layout
) -> None:
    rows = [[examples[i] for i in row] for row in pack_examples(examples).rows]

    def gradients(layout: Layout) -> list[torch.Tensor]:
        loss = LabelledLoss(build_llama())
        for each in build_batch(rows, SEQ_LEN, rows_per_forward=2, layout=layout).passes:
            loss(each.input_ids_BT, each.labels_BT, each.position_ids_BT).backward()
        return [parameter.grad for parameter in loss.parameters()]

    for one, other in zip(gradients("packed"), gradients(layout), strict=True):
        assert (one - other).norm() <= 1e-5 * one.norm()


def test_examples_of_like_length_share_a_pass() -> None:
    rows = [[encoded([1] * n, 1) for n in (9, 2, 2, 2, 9, 2)]]
    batch = build_batch(rows, 18, layout="apart", rows_per_forward=1)
    assert [tuple(each.labels_BT.shape) for each in batch.passes] == [(2, 9), (4, 2)]


def test_an_epoch_holds_every_row_once_and_the_next_one_in_another_order() -> None:
    first, second = (stream_rows(start, 50, [of_rows(50)], seed=3) for start in (0, 50))
    assert sorted(first) == sorted(second) == [(0, row) for row in range(50)]
    assert first != second


@given(
    parts=st.lists(st.tuples(st.integers(1, 9), st.floats(0.1, 3.0)), min_size=1, max_size=3),
    seed=st.integers(0, 99),
)
def test_a_mixture_takes_each_row_of_a_part_as_often_as_its_weight_says(
    parts: list[tuple[int, float]], seed: int
) -> None:
    mixture = [of_rows(num_rows, weight) for num_rows, weight in parts]
    epoch = sum(part.rows_per_epoch for part in mixture)
    num_epochs = 7
    taken = Counter(stream_rows(0, num_epochs * epoch, mixture, seed=seed))
    for place, part in enumerate(mixture):
        times = [taken[place, row] for row in range(len(part.packing.rows))]
        assert sum(times) == num_epochs * part.rows_per_epoch
        assert max(times) - min(times) <= 1


@given(
    parts=st.lists(st.tuples(st.integers(1, 9), st.floats(0.1, 3.0)), min_size=1, max_size=3),
    first=st.integers(0, 60),
    count=st.integers(1, 40),
)
def test_the_stream_of_a_mixture_depends_on_the_place_alone(
    parts: list[tuple[int, float]], first: int, count: int
) -> None:
    mixture = [of_rows(num_rows, weight) for num_rows, weight in parts]
    whole = stream_rows(0, first + count, mixture, seed=5)
    assert stream_rows(first, count, mixture, seed=5) == whole[first:]


def test_a_later_start_continues_with_the_next_rows(examples: list[Encoded]) -> None:
    whole = packed_batches(mixed(examples), rows_per_step=4, seed=1)
    resumed = packed_batches(mixed(examples), rows_per_step=4, seed=1, start_step=5)
    for expected, got in zip(itertools.islice(whole, 5, 9), resumed, strict=False):
        assert torch.equal(only_pass(expected).input_ids_BT, only_pass(got).input_ids_BT)
        assert torch.equal(only_pass(expected).labels_BT, only_pass(got).labels_BT)


def test_ranks_share_the_rows_of_a_step(examples: list[Encoded]) -> None:
    alone = next(packed_batches(mixed(examples), rows_per_step=4, seed=1, start_step=2))
    shares = [
        next(
            packed_batches(
                mixed(examples), rows_per_step=4, seed=1, start_step=2, rank=rank, world_size=2
            )
        )
        for rank in range(2)
    ]
    shared = torch.cat([only_pass(share).input_ids_BT for share in shares])
    assert torch.equal(shared, only_pass(alone).input_ids_BT)
    assert sum(s.num_labelled_tokens for s in shares) == alone.num_labelled_tokens


def test_rows_that_ranks_cannot_share_are_refused(examples: list[Encoded]) -> None:
    batches = packed_batches(mixed(examples), rows_per_step=3, seed=1, world_size=2)
    with pytest.raises(ValueError, match="rows_per_step is 3 on 2 ranks"):
        next(batches)
