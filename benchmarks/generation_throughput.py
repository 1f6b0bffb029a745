"""The speed at which vLLM alone, our actor, our whole path and peers generate the same requests.

    python -m benchmarks.generation_throughput            forty minutes on two idle cores
    python -m benchmarks.generation_throughput --quick    the same, too small to mean anything

    raw            vLLM's `LLM.generate` with token ids, all prompts of a set in one call
    actor_loop     our VLLMEngine under its watchdog in a Ray actor, twice the batch open
    whole_path     our scoring stage: template, tokenise, generate, grade, write Arrow, commit
    ray_data_llm   Ray Data with chat template, tokenize and detokenize stages, at our engine values
    ray_data_llm_defaults    likewise at its own values
    ..._geometric  lengths drawn from a geometric distribution, at most 8 times their mean, with
                   ignore_eos: one blocking `LLM.generate` per max_num_seqs prompts against our
                   actor's loop, which refills

Held equal are engine values (except ray_data_llm_defaults), environment and OpenMP binding, the
prompts in their order, greedy decoding, and the end of a completion (the turn's end token or
max_tokens). Each pass takes problems that no engine has seen, so that a prompt's question is never
in the prefix cache and its instruction always is. The contenders of a pair run one after the other
on the same problems, in an order that reverses from pair to pair; the first, smaller pass of each
is discarded; all engines of a comparison stay up, and the cores that the idle ones burn are
printed. The peers have a round of their own, with our path run again beside them, so that Ray
Data's threads are absent while our loop is compared with vLLM's. Rates are completion tokens per
second of the driver's clock. On a GPU the whole path's fraction of the roofline (roofline.py) is
printed too.

The last line on stdout is one JSON document.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import ray
from rich.console import Console

from benchmarks.throughput.contenders import ActorLoop, WholePath
from benchmarks.throughput.machine import binding, engines_at_rest, roomy_ray
from benchmarks.throughput.models import (
    MODELS,
    SIZES,
    Size,
    engine_config,
    model_directory,
)
from benchmarks.throughput.ratios import Measured, contender_table, figures_of, ratio_table
from benchmarks.throughput.raw_engine import RawEngine
from benchmarks.throughput.ray_data_llm import RayDataLLM, default_settings, equal_settings
from benchmarks.throughput.roofline import job_limit, job_of, measured_ceiling, read_geometry
from benchmarks.throughput.runs import run_config, settings_of, untracked
from benchmarks.throughput.workload import (
    Pass,
    Prompt,
    build_prompts,
    draw_sets,
    ideal_cached_tokens,
    with_geometric_lengths,
)
from orca2_gen.chat import load_chat
from orca2_gen.config.engine import VLLMEngineConfig
from orca2_gen.strategies import load_strategies
from ray_jobs.cluster import is_cpu_build
from ray_jobs.pipeline import read_tasks
from ray_jobs.run import open_run

KINDS = ("pair", "lengths", "peers")
"""Kinds of sets; each comparison has its own, and number 0 of each is warm-up."""
PEERS = ("vllm", "ray_data_llm")
REST_SECONDS = 1.5
"""Seconds before a pass: a vLLM worker spins for a second after its last step before it sleeps, and
would take a core from the next contender."""


@dataclass(frozen=True, slots=True)
class Bench:
    """One model on its way through the comparisons."""

    measured: Measured
    engine: VLLMEngineConfig
    size: Size
    pairs: int
    sets: dict[str, list[Prompt]]
    path: WholePath

    def ask(self, pair: int, contenders: Mapping[str, Callable[[], Pass]]) -> None:
        """Runs each contender once, in an order that reverses from pair to pair."""
        names = list(contenders)
        for contender in names if pair % 2 else names[::-1]:
            time.sleep(REST_SECONDS)
            each = contenders[contender]()
            _tell(contender, each, is_warm_up=pair == 0)
            if pair:
                self.measured.add(contender, each)

    def note_rest(self, when: str) -> None:
        """Notes the binding of the running engines and the cores that they burn at rest."""
        time.sleep(REST_SECONDS)
        bound, idle = engines_at_rest()
        self.measured.settings |= {f"worker_cores_{when}": bound, f"idle_cores_{when}": idle}


def main() -> None:
    """Measures the models and prints tables and the JSON line."""
    options = _options()
    bound = binding(options.bind)
    measured: dict[str, Measured] = {}
    with tempfile.TemporaryDirectory() as folder, roomy_ray():
        for name in options.models:
            measured[name] = measure(name, Path(folder), options)
            measured[name].settings |= bound
    out = Console(width=None if Console().is_terminal else 170)
    for name, each in measured.items():
        out.print(contender_table(name, each))
    out.print(ratio_table(measured))
    print(json.dumps({name: figures_of(each) for name, each in measured.items()}))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(SIZES))
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--problems", type=int, help="problems of one set, a multiple of 16")
    parser.add_argument("--bind", help="VLLM_CPU_OMP_THREADS_BIND; vLLM's own choice if not given")
    parser.add_argument("--against", nargs="+", default=list(PEERS), choices=PEERS)
    parser.add_argument("--quick", action="store_true", help="one pair of 32 problems")
    options = parser.parse_args()
    if options.quick:
        options.pairs, options.problems = 1, 32
    if options.problems is not None and (options.problems < 16 or options.problems % 16):
        parser.error(f"--problems is {options.problems}; expected a multiple of 16")
    return options


def measure(
    name: str,
    folder: Path,
    options: argparse.Namespace,
    note: Callable[[Measured], None] = lambda measured: None,
) -> Measured:
    """The passes of every contender on one model; `note` gets them after each comparison too."""
    size = SIZES[name]
    if options.problems is not None:
        warm_up = min(options.problems, size.warm_up_problems)
        size = replace(size, problems=options.problems, warm_up_problems=warm_up)
    on_gpu = bool(ray.cluster_resources().get("GPU", 0)) and not is_cpu_build()
    ceiling = ray.get(ray.remote(num_gpus=1)(measured_ceiling).remote()) if on_gpu else None
    model = model_directory(name, folder)
    engine = engine_config(model, size, on_gpu=on_gpu)
    sizes = {
        f"{kind}-{pair}": size.problems if pair else size.warm_up_problems
        for kind in KINDS
        for pair in range(options.pairs + 1)
    }
    measured = Measured(settings=settings_of(engine, size) | {"pairs": options.pairs})
    with tempfile.TemporaryDirectory(dir=folder) as here, ExitStack() as stack:
        config = run_config(engine, size, Path(here), draw_sets(sizes))
        run = stack.enter_context(open_run(config, untracked))
        read_tasks(run)
        assert not any(receipt.counts["rejected"] for receipt in run.ledger.committed("problems"))
        chat, strategies = load_chat(engine.model), load_strategies(None)
        path = WholePath(run)
        try:
            sets = {
                set_name: build_prompts(path.blocks(set_name), strategies, chat, size.max_tokens)
                for set_name in sizes
            }
            bench = Bench(measured, engine, size, options.pairs, sets, path)
            measured.cold_start_seconds["whole_path"] = round(path.cold_start_seconds, 1)
            if "vllm" in options.against:
                _compare_with_vllm(bench)
                if ceiling is not None:
                    job = job_of(measured.passes["whole_path"], size.max_num_seqs)
                    measured.limit = job_limit(read_geometry(model), ceiling, job)
                note(measured)
            if "ray_data_llm" in options.against:
                _compare_with_ray_data(bench)
            for contender in ("whole_path", "whole_path_beside_peers"):  # one engine, both rounds
                measured.preemptions[contender] = path.preemptions()
        finally:
            path.close()
    _count_ideal(bench)
    note(measured)
    return measured


def _compare_with_vllm(bench: Bench) -> None:
    """Runs raw against actor loop and whole path, and blocking batches against the actor loop."""
    measured = bench.measured
    raw, loop = RawEngine(bench.engine), ActorLoop(bench.engine)
    try:
        measured.cold_start_seconds["raw"] = round(raw.cold_start_seconds, 1)
        measured.cold_start_seconds["actor_loop"] = round(loop.cold_start_seconds, 1)
        for pair in range(bench.pairs + 1):
            name = f"pair-{pair}"
            bench.ask(
                pair,
                {
                    "raw": partial(raw.generate, bench.sets[name]),
                    "actor_loop": partial(loop.generate, bench.sets[name]),
                    "whole_path": partial(bench.path.score, name),
                },
            )
            prompts = with_geometric_lengths(
                bench.sets[f"lengths-{pair}"], bench.size.mean_length, pair
            )
            batch = bench.size.max_num_seqs
            bench.ask(
                pair,
                {
                    "blocking_geometric": partial(
                        raw.generate, prompts, batch_size=batch, ignore_eos=True
                    ),
                    "actor_loop_geometric": partial(loop.generate, prompts, ignore_eos=True),
                },
            )
        measured.preemptions["actor_loop"] = loop.preemptions()
        bench.note_rest("beside_vllm")
    finally:
        raw.close()
        loop.close()


def _compare_with_ray_data(bench: Bench) -> None:
    """Runs the whole path against ray.data.llm, at equal values and at its own."""
    names = [f"peers-{pair}" for pair in range(bench.pairs + 1)]
    settings = {
        "ray_data_llm": equal_settings(bench.engine),
        "ray_data_llm_defaults": default_settings(bench.engine),
    }
    peers: dict[str, RayDataLLM] = {}
    try:
        for contender, chosen in settings.items():
            started = time.perf_counter()
            peers[contender] = RayDataLLM(
                bench.engine.model, chosen, {name: bench.sets[name] for name in names}
            )
            _tell(contender, peers[contender].answer(names[0]), is_warm_up=True)
            seconds = round(time.perf_counter() - started, 1)
            bench.measured.cold_start_seconds[contender] = seconds
        _tell("whole_path_beside_peers", bench.path.score(names[0]), is_warm_up=True)
        bench.note_rest("beside_ray_data")
        for pair, name in enumerate(names[1:], 1):
            bench.ask(
                pair,
                {"whole_path_beside_peers": partial(bench.path.score, name)}
                | {contender: partial(peer.answer, name) for contender, peer in peers.items()},
            )
    finally:
        for peer in peers.values():
            peer.close()


def _count_ideal(bench: Bench) -> None:
    """Notes the tokens that the path's engine could have cached, given its order of the sets."""
    seen: set[Any] = set()
    kinds = {"pair": "whole_path", "peers": "whole_path_beside_peers"}
    assert bench.engine.block_size is not None  # engine_config sets it
    for kind, contender in kinds.items():
        if contender in bench.measured.passes:
            ideal = [
                ideal_cached_tokens(
                    [prompt.token_ids for prompt in bench.sets[f"{kind}-{pair}"]],
                    bench.engine.block_size,
                    seen,
                )
                for pair in range(bench.pairs + 1)
            ]
            bench.measured.ideal_cached_tokens[contender] = ideal[1:]


def _tell(contender: str, each: Pass, *, is_warm_up: bool) -> None:
    discarded = ", discarded" if is_warm_up else ""
    print(f"{contender}: {each}{discarded}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
