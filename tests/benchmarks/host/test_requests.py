from __future__ import annotations

import pytest

from benchmarks.host.requests import FULL, TINY, Shape, prompts_of
from benchmarks.throughput.workload import ideal_cached_tokens


@pytest.mark.parametrize("shape", [FULL, TINY], ids=["full", "tiny"])
def test_prompts_share_their_beginning_and_nothing_else(shape: Shape) -> None:
    prompts = [*prompts_of(shape, 5, seed=0), *prompts_of(shape, 5, seed=1)]
    length = shape.shared_tokens + shape.own_tokens
    assert {len(prompt.token_ids) for prompt in prompts} == {length}
    beginnings = {prompt.token_ids[: shape.shared_tokens] for prompt in prompts}
    assert len(beginnings) == 1
    assert len({prompt.token_ids[shape.shared_tokens :] for prompt in prompts}) == len(prompts)
    # The second pass finds the shared blocks in the cache and computes the rest.
    shared = shape.shared_tokens // 16 * 16
    assert ideal_cached_tokens([p.token_ids for p in prompts], 16, set()) == 9 * shared


@pytest.mark.parametrize("shape", [FULL, TINY], ids=["full", "tiny"])
def test_a_request_fits_the_engine_that_takes_it(shape: Shape) -> None:
    tokens = shape.shared_tokens + shape.own_tokens + shape.completion_tokens
    assert tokens <= shape.max_model_len
    assert shape.max_num_seqs <= shape.max_num_batched_tokens
