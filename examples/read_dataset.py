"""Shows a finished dataset: how many rows each strategy has, and one row as a student reads it.

.venv/bin/python examples/read_dataset.py RUN/dataset
"""

import sys
from collections import Counter

from datasets import load_from_disk

dataset = load_from_disk(sys.argv[1])

for strategy, rows in Counter(dataset["strategy"]).most_common():
    print(f"{strategy}: {rows} rows")

row = dataset[0]
print(f"\n{row['problem_id']}, of {row['strategy']}")
for message in row["messages"]:
    print(f"\n{message['role'].upper()}\n{message['content']}")

prompt, answer = row["num_prompt_tokens"], len(row["input_ids"]) - row["num_prompt_tokens"]
print(f"\n{prompt} prompt tokens without loss, then {answer} tokens to learn")
