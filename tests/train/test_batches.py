"""Shapes: B rows, T tokens per row, V vocabulary."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from transformers import LlamaForCausalLM

from orca2_gen.records import Example
from train.batches import IGNORE_INDEX, Batch, build_batch, packed_batches, stream_rows
from train.loss import LabelledLoss
from train.packing import Packing, pack

BuildExample = Callable[..., Example]
BuildLlama = Callable[..., LlamaForCausalLM]
SEQ_LEN = 64


def logits_BTV(model: LlamaForCausalLM, batch: Batch) -> torch.Tensor:
    model.eval()
    with torch.no_grad():
        return model(
            input_ids=batch.input_ids_BT, position_ids=batch.position_ids_BT, use_cache=False
        ).logits


def pack_examples(examples: list[Example]) -> Packing:
    return pack([len(e.input_ids) for e in examples], seq_len=SEQ_LEN, seed=0)


def test_labels_cover_the_assistant_turn_only(build_example: BuildExample) -> None:
    chat, end_of_turn = build_example((5, 6, 7, 8, 2), 3), 2
    batch = build_batch([[chat]], seq_len=8)
    ignored = IGNORE_INDEX
    assert batch.labels_BT.tolist() == [
        [ignored, ignored, ignored, 8, end_of_turn, ignored, ignored, ignored]
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
    assert batch.labels_BT.tolist() == [[ignored, 6, ignored, 8, 9, ignored]]
    assert batch.num_labelled_tokens == 3


def test_positions_restart_with_each_example_and_with_the_padding(
    build_example: BuildExample,
) -> None:
    batch = build_batch([[build_example((5, 6, 7), 1), build_example((8, 9), 1)]], seq_len=8)
    assert batch.position_ids_BT.tolist() == [[0, 1, 2, 0, 1, 0, 1, 2]]


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
            other_ids = tuple((token + 1) % vocab_size for token in changed.input_ids)
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
    batch.input_ids_BT[:, 5:] = 33
    after = logits_BTV(model, batch)
    torch.testing.assert_close(after[:, :5], before[:, :5], rtol=0, atol=1e-6)


@pytest.mark.parametrize("attn_implementation", ["sdpa", "eager"])
def test_loss_packed_equals_loss_unpacked(
    build_llama: BuildLlama, examples: list[Example], attn_implementation: str
) -> None:
    model = build_llama(attn_implementation)
    rows = [[examples[i] for i in row] for row in pack_examples(examples).rows]
    batch = build_batch(rows, SEQ_LEN)
    packed = LabelledLoss(model)(batch.input_ids_BT, batch.labels_BT, batch.position_ids_BT)
    unpacked, num_labels = 0.0, 0
    for one in examples:
        input_ids_BT = torch.tensor([one.input_ids])
        labels_BT = input_ids_BT.clone()
        labels_BT[:, : one.num_prompt_tokens] = IGNORE_INDEX
        count = int((labels_BT[:, 1:] != IGNORE_INDEX).sum())
        # transformers' own loss, a mean over the shifted labels
        unpacked += model(input_ids=input_ids_BT, labels=labels_BT).loss.item() * count
        num_labels += count
    assert batch.num_labelled_tokens == num_labels
    assert packed.item() == pytest.approx(unpacked, rel=1e-4)


def test_an_epoch_holds_every_row_once_and_the_next_one_in_another_order() -> None:
    first, second = (stream_rows(start, 50, num_rows=50, seed=3) for start in (0, 50))
    assert sorted(first) == sorted(second) == list(range(50))
    assert first != second


def test_a_step_may_reach_into_later_epochs() -> None:
    whole = stream_rows(0, 35, num_rows=10, seed=3)
    assert [stream_rows(i, 1, num_rows=10, seed=3)[0] for i in range(35)] == whole
    assert stream_rows(8, 17, num_rows=10, seed=3) == whole[8:25]


def test_a_later_start_continues_with_the_next_rows(examples: list[Example]) -> None:
    packing = pack_examples(examples)
    whole = packed_batches(examples, packing, rows_per_step=4, seed=1)
    resumed = packed_batches(examples, packing, rows_per_step=4, seed=1, start_step=5)
    for expected, got in zip(itertools.islice(whole, 5, 9), resumed, strict=False):
        assert torch.equal(expected.input_ids_BT, got.input_ids_BT)
        assert torch.equal(expected.labels_BT, got.labels_BT)


def test_ranks_share_the_rows_of_a_step(examples: list[Example]) -> None:
    packing = pack_examples(examples)
    alone = next(packed_batches(examples, packing, rows_per_step=4, seed=1, start_step=2))
    shares = [
        next(
            packed_batches(
                examples, packing, rows_per_step=4, seed=1, start_step=2, rank=rank, world_size=2
            )
        )
        for rank in range(2)
    ]
    assert torch.equal(torch.cat([s.input_ids_BT for s in shares]), alone.input_ids_BT)
    assert sum(s.num_labelled_tokens for s in shares) == alone.num_labelled_tokens


def test_rows_that_ranks_cannot_share_are_refused(examples: list[Example]) -> None:
    batches = packed_batches(
        examples, pack_examples(examples), rows_per_step=3, seed=1, world_size=2
    )
    with pytest.raises(ValueError, match="rows_per_step is 3 on 2 ranks"):
        next(batches)
