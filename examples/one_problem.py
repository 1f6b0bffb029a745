"""One problem becomes a row to train on, without Ray: .venv/bin/python examples/one_problem.py"""

from asyncio import run
from typing import Any

from orca2_gen import chat, erasure, rationales, records, scripted_engine, strategies
from orca2_gen.config import arguments, load
from orca2_gen.scoring import score
from orca2_gen.selection import blocks, decision
from orca2_gen.tasks import read

config = load.load_config("ray_jobs/configs/rehearsal.toml")
texts, model = strategies.load_strategies(None), chat.load_chat("orca2_gen/microworld/student")
said = {"step_by_step": "21 * 5 is 105, and 105 + 4 is 109.\nAnswer: 109"}  # the others are wrong
engine = scripted_engine.ScriptedEngine(model, lambda r: said.get(r.strategy, "Answer: 26"))
how: Any = {"engine": engine, "chat": model, "strategies": texts}
asked = config.rationales.model_dump(exclude={"keep_refused"})
asking = rationales.Asking(**asked, max_model_len=4096, run_seed=0)

rows = read.read_task(arguments.task_source(config.tasks[0])).rows
problem = next(row for row in rows if isinstance(row, records.Problem))
scores = [run(score(problem, s, role="student", budget=asking.budget, **how)) for s in texts.names]
group = blocks.Group(name="gsm8k", num_problems=1, num_groups=1)
selection = decision.next_step(group, arguments.selection_rule(config, texts), {0: scores})
assert isinstance(selection, records.Selection)
[rationale] = run(rationales.teach(problem, selection.strategy, asking=asking, **how)).rationales
example = erasure.erase(rationale, prompts="erased", max_tokens=4096, chat=model, strategies=texts)
assert isinstance(example, records.Example)
print("As the teacher saw it:", rationale.system, rationale.user, sep="\n\n")
print("\nAs the student trains on it:", *(m.content for m in example.messages), sep="\n\n")
