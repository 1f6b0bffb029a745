"""What every method starts from: the config of a pair, its problems, and what a model is asked.

The problems are those that our own run has committed, so that all methods leave out the same copies
and unreadable rows; the scored ones are those that a race would score if nothing ever fell.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from orca2_gen.calls import GREEDY, Sampling
from orca2_gen.chat import Chat, encode_prompt, load_chat
from orca2_gen.config.arguments import engine_rendering
from orca2_gen.config.engine import VLLMEngineConfig
from orca2_gen.config.load import engine_directory, load_config
from orca2_gen.config.schema import Config
from orca2_gen.engine import Request
from orca2_gen.prompts import prompt_messages, user_text
from orca2_gen.records import Problem, Role
from orca2_gen.run_directory.arrow_files import read_records
from orca2_gen.selection.blocks import Rule, permutation
from orca2_gen.strategies import Strategies
from ray_jobs.run import Run
from ray_jobs.units import committed_problems, groups

MICROWORLD = Path(__file__).parents[2] / "ray_jobs" / "configs" / "microworld.toml"
SAMPLES = 4
"""Samples that the usual assembly draws for a problem; ours makes at most as many attempts."""
BLOCK_SIZE = 32
"""The default of `selection.block_size`; the microworld's own is meant for its full grid."""
TINY = ("selection.scored_problems=12", "selection.block_size=4", "rows_per_unit=8")
TINY_ROWS = 16
"""Problems of a task at the tiny size."""


def pair_config(
    path: Path, run_dir: Path, overrides: Sequence[str], *, is_tiny: bool = False
) -> Config:
    """The config of our run, by which the assemblies go too.

    Every request is asked once, with one limit of tokens, and no answer is asked for again: the
    assemblies do neither. There is one engine of each model.

    Raises:
        ValueError: the config is wrong, or asks for what the assemblies do not do.
    """
    method = ["selection.method=race", f"selection.block_size={BLOCK_SIZE}"]
    config = load_config(
        path,
        [
            *method,
            "scoring.ask_again=none",
            f"rationales.max_attempts={SAMPLES}",
            "student.replicas=1",
            "teacher.replicas=1",
            *(TINY if is_tiny else ()),
            *overrides,
            f"run_dir={run_dir}",
        ],
    )
    for role, engine in (("student", config.student), ("teacher", config.teacher)):
        if not isinstance(engine, VLLMEngineConfig) or engine.thinking_tokens is not None:
            raise ValueError(
                f"{path}: {role} is no vLLM engine without a limit of thinking; ray.data.llm runs "
                "no other"
            )
    if any(task.answer_type == "open" for task in config.tasks):
        raise ValueError(f"{path}: a task is open, and the assemblies have no judge; leave it out")
    scoring = config.scoring.model_copy(update={"retry_max_tokens": config.scoring.max_tokens})
    tasks = config.tasks
    if is_tiny:
        tasks = tuple(task.model_copy(update={"rows_per_task": TINY_ROWS}) for task in tasks)
    return config.model_copy(update={"scoring": scoring, "tasks": tasks})


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """One prompt of one model, in the form that each path takes."""

    problem: Problem
    role: Role
    strategy: str
    system: str
    user: str
    max_tokens: int
    attempt: int = 0
    sampling: Sampling = GREEDY

    def request(self, chat: Chat) -> Request:
        """The same as our engine's request, under the identity that our own run gives it."""
        return self._request(encode_prompt(chat, prompt_messages(self.system, self.user)))

    @property
    def seed(self) -> int:
        """The sampling seed that our own run gives it."""
        return self._request(()).seed

    def _request(self, prompt_token_ids: tuple[int, ...]) -> Request:
        return Request(
            problem_id=self.problem.problem_id,
            role=self.role,
            strategy=self.strategy,
            call=0,
            attempt=self.attempt,
            prompt_token_ids=prompt_token_ids,
            max_tokens=self.max_tokens,
            **dataclasses.asdict(self.sampling),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Ground:
    """The problems of a pair, by selection group, and all that says how they are asked."""

    config: Config
    strategies: Strategies
    rule: Rule
    problems: Mapping[str, tuple[Problem, ...]]
    scored: Mapping[str, tuple[Problem, ...]]
    """The problems of a group that may be scored."""

    @property
    def num_problems(self) -> int:
        return sum(map(len, self.problems.values()))

    def engine(self, role: Role) -> VLLMEngineConfig:
        engine = self.config.student if role == "student" else self.config.teacher
        assert isinstance(engine, VLLMEngineConfig)  # pair_config takes no other
        return engine

    def chat(self, role: Role) -> Chat:
        """The Chat of a model, as our own engines render it."""
        engine = self.engine(role)
        rendering = engine_rendering(engine, self.config.template_date)
        return load_chat(engine_directory(engine), rendering)

    def asked(
        self,
        problem: Problem,
        role: Role,
        strategy: str,
        attempt: int = 0,
        sampling: Sampling = GREEDY,
    ) -> Asked:
        """The prompt of a problem under a strategy, by the project's own texts."""
        section = self.config.scoring if role == "student" else self.config.rationales
        return Asked(
            problem=problem,
            role=role,
            strategy=strategy,
            system=self.strategies.system_message(strategy, problem),
            user=user_text(problem, self.strategies),
            max_tokens=section.max_tokens,
            attempt=attempt,
            sampling=sampling,
        )


def ground_of(run: Run) -> Ground:
    """The Ground of a run whose problems are committed.

    Raises:
        ValueError: a strategy makes several calls, which the assemblies do not.
    """
    strategies = run.inputs.strategies
    if several := [name for name, texts in strategies.further_calls.items() if texts]:
        raise ValueError(f"strategy {several[0]} makes several calls; the assemblies make one")
    receipts = committed_problems(run)
    problems, scored = {}, {}
    for group in groups(receipts):
        files = [receipt.accepted for receipt in receipts[group.name]]
        read = [each for entry in files for each in read_records(run.run_dir, entry, Problem)]
        problems[group.name] = tuple(read)
        scored[group.name] = tuple(read[number] for number in permutation(group, run.rule))
    return Ground(
        config=run.config, strategies=strategies, rule=run.rule, problems=problems, scored=scored
    )
