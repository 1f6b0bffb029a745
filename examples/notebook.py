"""A run from a notebook: check the config, run it, look at what it chose and made.

.venv/bin/python examples/notebook.py ray_jobs/configs/rehearsal.toml runs/notebook
"""

import sys

from orca2_gen.notebook import load_config, load_run, preflight, rows, run, selections

# %% The config, and what its models' files say before anything starts
config = load_config(sys.argv[1], [f"run_dir={sys.argv[2]}"])
for answered in preflight(config):
    print(answered.about, *answered.facts, *answered.odd, sep="\n  ")

# %% The run; the same cell goes on after an interruption
print(f"{run(config).rows} rows")

# %% Which strategy is best for the student, and one row as it trains
ledger = load_run(config.run_dir)
for selection in selections(ledger):
    means = {each.strategy: round(each.mean, 3) for each in selection.summaries}
    print(f"{selection.group}: {selection.strategy}, of {means}")
for message in next(rows(ledger)).messages:
    print(f"\n{message.role.upper()}\n{message.content}")

# %% A table of all scores (pandas.DataFrame takes it as it is)
table = [(each.task, each.strategy, each.outcome) for each in rows(ledger, "scores")]
print(f"\n{len(table)} scores, the first {table[0]}")
