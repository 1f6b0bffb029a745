"""Which rows cost less, and that a training's steps are passed in them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.train.test_sft import PLAN, killed_in_step, read_losses
from train.architecture import causal_share
from train.batches import Encoded, PackedExamples, build_batch, encoded, packed_batches
from train.flops import TrainingFlops
from train.isolation import Isolation
from train.layouts import RowCosts, cheaper_layout
from train.loop import Loop
from train.packing import pack
from train.plan import Execution
from train.sft import train_student

BuildLlama = Callable[..., Any]

SEQ_LEN = 64
COSTS = {
    "attention": RowCosts(operations=lambda slots, pairs: pairs),
    "slots": RowCosts(operations=lambda slots, pairs: slots),
    "both": RowCosts(operations=lambda slots, pairs: 64 * slots + pairs),
    "masked": RowCosts(operations=lambda slots, pairs: 64 * slots + pairs, causal_share=1.0),
    "few": RowCosts(operations=lambda slots, pairs: pairs, most_passes=1.25),
}


def packed_rows(lengths: list[int]) -> list[list[int]]:
    rows = pack(lengths, seq_len=SEQ_LEN, seed=0).rows
    return [[lengths[index] for index in row] for row in rows]


def cost_of(rows: list[list[int]], layout: str, costs: RowCosts, share: int | None) -> float:
    """What the passes that are made of these rows cost."""
    examples = [[encoded(range(1, length + 1), 1) for length in row] for row in rows]
    made = build_batch(examples, SEQ_LEN, layout=layout, rows_per_forward=share)  # type: ignore[arg-type]
    shapes = [each.labels_BT.shape for each in made.passes]
    pairs = sum(num * width**2 for num, width in shapes)
    if layout == "apart":
        pairs *= costs.causal_share
    return costs.operations(made.num_slots, pairs)


@given(
    lengths=st.lists(st.integers(1, SEQ_LEN), min_size=1, max_size=30),
    name=st.sampled_from(sorted(COSTS)),
    share=st.sampled_from([None, 1, 3]),
)
def test_the_layout_that_is_chosen_costs_less_as_its_passes_are_made(
    lengths: list[int], name: str, share: int | None
) -> None:
    rows, costs = packed_rows(lengths), COSTS[name]
    found = cheaper_layout([rows], SEQ_LEN, costs, rows_per_forward=share)
    apart, packed = (cost_of(rows, each, costs, share) for each in ("apart", "packed"))
    if math.isinf(costs.most_passes):
        assert found == ("apart" if apart < packed else "packed")
    elif found == "apart":
        assert apart < packed


@given(
    lengths=st.lists(st.integers(1, SEQ_LEN), min_size=1, max_size=40),
    name=st.sampled_from(sorted(COSTS)),
    share=st.sampled_from([1, 2]),
)
def test_passes_apart_are_no_more_than_a_rank_may_have(
    lengths: list[int], name: str, share: int
) -> None:
    rows, costs = packed_rows(lengths), COSTS[name]
    if cheaper_layout([rows], SEQ_LEN, costs, rows_per_forward=share) == "apart":
        examples = [[encoded([1] * length, 1) for length in row] for row in rows]
        made = build_batch(examples, SEQ_LEN, layout="apart", rows_per_forward=share)
        assert len(made.passes) <= costs.most_passes * math.ceil(len(rows) / share)


def test_the_slowest_rank_decides_for_all() -> None:
    short, uneven = [[8] * 8], [[33, 31]]
    costs = COSTS["both"]
    assert cheaper_layout([short], SEQ_LEN, costs) == "apart"
    # Of 33 and 31 tokens apart, each takes a pass of its own.
    costly = RowCosts(operations=lambda slots, pairs: 1000 * slots + pairs)
    assert cheaper_layout([short, uneven], SEQ_LEN, costly, rows_per_forward=1) == (
        cheaper_layout([uneven], SEQ_LEN, costly, rows_per_forward=1)
    )


def steps_of(
    examples: list[Encoded], costs: RowCosts | None, rank: int = 0, world_size: int = 1
) -> list[list[tuple[int, ...]]]:
    """The shapes of the passes of some steps."""
    lengths = [len(each.input_ids) for each in examples]
    part = PackedExamples(
        examples=examples, packing=pack(lengths, seq_len=SEQ_LEN, seed=0), lengths=lengths
    )
    batches = packed_batches(
        [part],
        rows_per_step=4,
        seed=0,
        costs=costs,
        rows_per_forward=1,
        rank=rank,
        world_size=world_size,
    )
    return [[tuple(each.labels_BT.shape) for each in next(batches).passes] for _ in range(3)]


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_all_ranks_choose_the_same_rows_for_a_step(world_size: int) -> None:
    lengths = [*[5] * 40, 64, 64, 33, 31, 33, 31, 40, 20]
    examples = [encoded([1] * length, 1) for length in lengths]
    for costs in COSTS.values():
        steps = [steps_of(examples, costs, rank, world_size) for rank in range(world_size)]
        for of_ranks in zip(*steps, strict=True):
            packed = {all(shape == (1, SEQ_LEN) for shape in shapes) for shapes in of_ranks}
            if packed == {True, False}:
                # A rank whose own rows hold one whole example each has the same shapes either way.
                assert any(len(shapes) == 4 // world_size for shapes in of_ranks)


def test_without_costs_rows_stay_as_they_are_packed() -> None:
    examples = [encoded([1] * 8, 1) for _ in range(64)]
    assert all(shapes == [(1, SEQ_LEN)] * 4 for shapes in steps_of(examples, None))
    assert all(shapes == [(8, 8)] * 4 for shapes in steps_of(examples, COSTS["both"]))


def loop_of(model: Any, *, layout: str = "cheapest", may_part: bool = True) -> Loop:
    """A Loop about a model, of which only the choice of rows is asked."""
    found: Any = SimpleNamespace(
        execution=Execution(layout=layout),  # type: ignore[arg-type]
        isolation=Isolation(layout="packed", may_part=may_part),
        state=SimpleNamespace(module=SimpleNamespace(model=model, router=None)),
        flops=TrainingFlops(per_token=6.0, per_token_and_length=12.0),
        plan=SimpleNamespace(seq_len=SEQ_LEN),
    )
    return cast(Loop, found)


def chosen_by(loop: Loop) -> RowCosts | None:
    get: Any = Loop._costs.fget  # type: ignore[attr-defined]
    found: RowCosts | None = get(loop)
    return found


def test_a_training_chooses_where_model_and_config_let_it(build_llama: BuildLlama) -> None:
    model = build_llama()
    costs = chosen_by(loop_of(model))
    assert costs is not None and costs.causal_share == 0.5
    assert chosen_by(loop_of(model, layout="packed")) is None
    assert chosen_by(loop_of(model, may_part=False)) is None
    routed = loop_of(model)
    routed.state.module.router = cast(Any, object())
    assert chosen_by(routed) is None


def test_what_attention_computes_is_told_by_the_model(build_llama: BuildLlama) -> None:
    model = build_llama()
    assert causal_share(model, SEQ_LEN) == 0.5
    assert causal_share(build_llama("eager"), SEQ_LEN) == 1.0
    for window, share in ((SEQ_LEN // 2, 1.0), (SEQ_LEN, 0.5), (None, 0.5)):
        model.config.sliding_window = window
        assert causal_share(model, SEQ_LEN) == share


def test_a_training_has_the_same_curve_and_goes_on_in_other_rows(
    tmp_path: Path, model_dir: Path, dataset_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(name: str, layout: str) -> list[float]:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        train_student(
            PLAN,
            Execution(save_every_steps=1, layout=layout),  # type: ignore[arg-type]
            model_dir=model_dir,
            dataset_dir=dataset_dir,
            output_dir=folder / "student",
            metrics_file=folder / "metrics.jsonl",
            prompts="erased",
        )
        return read_losses(folder / "metrics.jsonl")

    packed = train("packed", "packed")
    assert train("cheapest", "cheapest") == pytest.approx(packed, rel=1e-5)
    fills = [
        [json.loads(line)["fill"] for line in (tmp_path / name / "metrics.jsonl").open()]
        for name in ("packed", "cheapest")
    ]
    assert fills[0] != fills[1]  # so other rows were passed
    with killed_in_step(3, monkeypatch):
        train("both", "packed")
    assert train("both", "cheapest") == pytest.approx(packed, rel=1e-5)
