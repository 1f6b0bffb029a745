"""How many requests a race keeps open, beside what its engines hold."""

from __future__ import annotations

from orca2_gen.config.arguments import scored_engine, selection_rule
from orca2_gen.config.schema import Config
from orca2_gen.selection.blocks import Group, num_in_block
from orca2_gen.strategies import Strategies


def race_line(config: Config, strategies: Strategies) -> str:
    """A line about engines that a race leaves idle, and about what filling them costs.

    It is empty where nothing is raced, where its blocks fill the engines, and where the groups are
    not known before the tasks are read.
    """
    rule = selection_rule(config, strategies)
    if not rule.is_race or config.selection.select_by != "task":
        return ""
    num_tasks, num_strategies = len(config.tasks), len(rule.strategies)
    group = Group(name="", num_problems=rule.scored_problems, num_groups=num_tasks)
    num_problems = min(num_in_block(group, rule, num_strategies), rule.scored_problems)
    opened = num_tasks * num_problems * num_strategies
    _, engine = scored_engine(config)
    held = engine.sequences * engine.replicas
    if opened >= held:
        return ""
    most = num_tasks * rule.scored_problems * num_strategies
    if config.dispatch.prefer == "shortest_time":
        how = (
            f"they always work ahead of it, which may cost as much as the full grid, {most:,} cells"
        )
    else:
        how = (
            "they work ahead of it only as far as a tenth of its cells can be dropped; "
            f'dispatch.prefer = "shortest_time" keeps them busy for up to {most:,} cells, the full '
            "grid"
        )
    engines = f"{engine.replicas} engines hold" if engine.replicas > 1 else "1 engine holds"
    return (
        f"scores: a race of {num_tasks} task{'s' * (num_tasks > 1)} opens {opened:,} cells at a "
        f"time, and {engines} {held:,} sequences; {how}"
    )
