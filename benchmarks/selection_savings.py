"""The savings of the race over the full grid, and their cost, beside halving and a subset.

    python -m benchmarks.selection_savings

Planted tables (score_tables.py): five strategies, 100 to 500 problems, median gaps between the best
two of 0.02 to 0.08, cells of 1 to 10 tokens. Every table is replayed in several random orders.
Tokens are counted, not calls. Halving and the uniform subset get at most the tokens of the race in
the same order. Held-out regret is how much worse a pick is than the grid's own on 2,000 unseen
problems.

Microworld: one full grid of the real student (six tasks of 200 problems under six strategies, on
vLLM) is stored and replayed in the same way, with 200 held-out test problems per task; live races
alternate with live grids, and their wall time and tokens are compared (live_selection.py). The last
line is one JSON document.
"""

from __future__ import annotations

import argparse
import functools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.selection.live_selection import LiveScoring, live_scoring
from benchmarks.selection.replays import Pick, grid, halving, race, uniform_subset
from benchmarks.selection.score_tables import ScoreTable, planted_tables, top_gap

SETTINGS = ((100, 0.04), (200, 0.03), (200, 0.08), (500, 0.02), (500, 0.08))
"""Number of problems and median gap of each setting."""
REPORTED_PROBLEMS = 200
STRATEGIES = 5
TABLES, ORDERS = 250, 4
MICROWORLD_ORDERS = 1_000
"""Random orders of each of the microworld's six tasks."""
DELTA, BLOCK_SIZE = 0.05, 16
METHODS = ("race", "halving", "uniform")


@dataclass(frozen=True, kw_only=True, slots=True)
class Replayed:
    """One way to choose, in one order of one table."""

    agrees: bool
    regret: float
    """Regret on the grid."""
    held_out_regret: float
    token_share: float


def replay(table: ScoreTable, pick: Pick) -> Replayed:
    """The comparison of a pick with the full grid's."""
    full = grid(table)
    return Replayed(
        agrees=pick.strategy == full.strategy,
        regret=float(table.means[full.strategy] - table.means[pick.strategy]),
        held_out_regret=float(table.held_out[full.strategy] - table.held_out[pick.strategy]),
        token_share=pick.tokens / full.tokens,
    )


def replays(tables: list[ScoreTable], num_orders: int, seed: int) -> Iterator[dict[str, Replayed]]:
    """All methods in the same random orders of every table."""
    rng = np.random.default_rng(seed)
    for table in tables:
        for _ in range(num_orders):
            order = rng.permutation(table.scores.shape[1])
            raced = race(table, order, delta=DELTA, block_size=BLOCK_SIZE)
            picks = {
                "race": raced,
                "halving": halving(table, order, raced.tokens),
                "uniform": uniform_subset(table, order, raced.tokens),
            }
            yield {method: replay(table, pick) for method, pick in picks.items()}


def figures(found: list[dict[str, Replayed]]) -> dict[str, dict[str, float | None]]:
    """Figure -> method -> its value over all replays."""

    def over(method: str, name: str) -> list[float]:
        return [float(getattr(each[method], name)) for each in found]

    by_method = {
        method: {
            "agreement": float(np.mean(over(method, "agrees"))),
            "mean_regret": float(np.mean(over(method, "regret"))),
            "max_regret": max(over(method, "regret")),
            "token_share": float(np.mean(over(method, "token_share"))),
            "wall_share": None,
            "held_out_regret": float(np.mean(over(method, "held_out_regret"))),
        }
        for method in METHODS
    }
    names = by_method["race"]
    return {
        name: {
            method: None if (value := by_method[method][name]) is None else round(value, 4)
            for method in METHODS
        }
        for name in names
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pairs", type=int, default=3, help="Live races, each beside a grid.")
    parser.add_argument("--planted-only", action="store_true", help="No engine is started.")
    arguments = parser.parse_args()
    if arguments.pairs < 1:
        parser.error(f"argument --pairs: expected at least 1, found {arguments.pairs}")
    shown = Table(title=f"delta {DELTA}, blocks of {BLOCK_SIZE}", title_justify="left")
    columns = ("tables", "N", "median gap", "method", "agrees", "mean regret", "max", "tokens")
    for column in (*columns, "held out"):
        shown.add_column(column, justify="left" if column in ("tables", "method") else "right")
    planted: dict[str, Any] = {}
    for num_problems, gap in SETTINGS:
        tables = planted_tables(TABLES, num_problems, STRATEGIES, gap, arguments.seed)
        found = figures(list(replays(tables, ORDERS, arguments.seed)))
        if num_problems == REPORTED_PROBLEMS:
            planted[str(gap)] = found
        _show(shown, "planted", tables, found)
    microworld = None
    if not arguments.planted_only:
        microworld = _microworld(shown, arguments.seed, arguments.pairs)
    Console(width=120).print(shown)
    if microworld is not None:
        print(json.dumps(microworld["live"], indent=2))
    print(json.dumps({"planted": planted, "microworld": microworld}))


def _microworld(shown: Table, seed: int, num_pairs: int) -> dict[str, Any]:
    """The figures of the real student's stored grid; `live` holds those of races beside grids."""
    grids: list[LiveScoring] = []
    races: list[LiveScoring] = []
    with TemporaryDirectory(prefix="orca2-savings-") as folder:
        score = functools.partial(live_scoring, delta=DELTA, block_size=BLOCK_SIZE)
        for pair in range(num_pairs):
            # The order alternates, since a machine that slows down must not favour either.
            if pair % 2:
                races.append(score(Path(folder) / f"race-{pair}", "race"))
            is_first = pair == 0
            grids.append(score(Path(folder) / f"grid-{pair}", "full_grid", with_held_out=is_first))
            if not pair % 2:
                races.append(score(Path(folder) / f"race-{pair}", "race"))
    found: dict[str, Any] = figures(list(replays(grids[0].tables, MICROWORLD_ORDERS, seed)))
    _show(shown, "microworld", grids[0].tables, found)
    found["live"] = live = _live(grids, races)
    found["wall_share"] = {"race": live["wall_share"]["median"], "halving": None, "uniform": None}
    return found


def _live(grids: list[LiveScoring], races: list[LiveScoring]) -> dict[str, Any]:
    """The cost of each race as a share of its pair's grid, as median, least and most."""
    pairs = list(zip(grids, races, strict=True))
    walls = [raced.seconds / full.seconds for full, raced in pairs]
    tokens = [raced.completion_tokens / full.completion_tokens for full, raced in pairs]
    savings = [(1 - w) / (1 - t) for w, t in zip(walls, tokens, strict=True) if t < 1]
    return {
        "pairs": len(pairs),
        "token_share": _spread(tokens),
        "wall_share": _spread(walls),
        "wall_saving_over_token_saving": _spread(savings) if savings else None,
        "seconds": [{"grid": round(f.seconds, 1), "race": round(r.seconds, 1)} for f, r in pairs],
        "completion_tokens": [
            {"grid": f.completion_tokens, "race": r.completion_tokens} for f, r in pairs
        ],
        "chosen": [{"grid": f.chosen, "race": r.chosen} for f, r in pairs],
    }


def _spread(values: list[float]) -> dict[str, float]:
    found = {"median": float(np.median(values)), "least": min(values), "most": max(values)}
    return {name: round(value, 4) for name, value in found.items()}


def _show(shown: Table, kind: str, tables: list[ScoreTable], found: dict[str, Any]) -> None:
    measured = float(np.median([top_gap(table) for table in tables]))
    for method in METHODS:
        shown.add_row(
            kind,
            str(tables[0].scores.shape[1]),
            f"{measured:.3f}",
            method,
            f"{found['agreement'][method]:.3f}",
            *(f"{found[name][method]:.4f}" for name in ("mean_regret", "max_regret")),
            f"{found['token_share'][method]:.2f}",
            f"{found['held_out_regret'][method]:.4f}",
        )


if __name__ == "__main__":
    main()
