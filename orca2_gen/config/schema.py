"""The sections and keys of a config file as frozen models, named with the words of vLLM, Ray and
torch. `make docs` makes docs/config.md from the docstrings.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from orca2_gen.config.decontaminate import DecontaminateConfig
from orca2_gen.config.dispatch import DispatchConfig
from orca2_gen.config.engine import EngineConfig
from orca2_gen.config.scoring import ScoringConfig
from orca2_gen.config.section import FROM_LIST, Day, Fraction, PathText, Section
from orca2_gen.config.task import TaskConfig, check_held_out
from orca2_gen.config.training import TrainingConfig
from orca2_gen.selection.blocks import MOST_IN_BLOCK


class JudgingConfig(Section):
    """Judging asks the judge about every open answer once, greedily."""

    max_tokens: int = Field(256, ge=1)
    """Most tokens of the judge's reply; a judge that thinks before it replies needs more."""


class SelectionConfig(Section):
    """Selection turns scores into one strategy per task, category or sub-category."""

    policy: str = "student_best"
    """`"student_best"` and `"teacher_best"` choose the strategy with the best scores of that model,
    `"random"` draws one, `"fixed:STRATEGY"` names one."""
    select_by: Literal["task", "category", "sub_category"] = "task"
    """What a strategy is chosen for: the problems of a task, of a category or of a sub-category.
    A problem without a category counts by its task's name."""
    method: Literal["race", "full_grid"] = "race"
    """`"race"` stops scoring a strategy once it cannot be the winner. `"full_grid"` scores every
    strategy on all scored problems; a task (or category) with open problems always does."""
    delta: float = Field(0.05, gt=0.0, lt=1.0)
    """Upper bound, per task (or category), on the chance that a race finds another winner than the
    full grid."""
    scored_problems: int = Field(200, ge=1)
    """Most problems of a task (or category) that are scored, the first of a seeded permutation; all
    of its problems are taught."""
    block_size: int = Field(32, ge=1, le=MOST_IN_BLOCK)
    """Problems of a task (or category) that are scored and committed together. In a race the
    next block waits until all of this one is scored."""
    open_requests: int = Field(1024, ge=1)
    """Requests that a race keeps open over all tasks, so that engines do not run empty: where few
    tasks or few strategies are left, blocks grow up to 64 problems to reach it. About 1024 for
    every two engines of max_num_seqs 256."""
    indifference: Fraction = 0.0
    """Distance from the highest mean within which strategies tie; of these the one with the fewest
    completion tokens wins."""
    none_solved: str = "direct_answer"
    """Strategy of a task (or category) in which no strategy solves any problem."""
    cautious_arm: bool = False
    """Whether the cautious message is scored beside the strategies, for comparison; it cannot
    win."""

    @property
    def needs_scores(self) -> bool:
        return self.policy in ("student_best", "teacher_best")

    @model_validator(mode="after")
    def _policy_is_known(self) -> SelectionConfig:
        known = self.policy in ("student_best", "teacher_best", "random")
        if not known and not self.policy.startswith("fixed:"):
            raise ValueError(
                f"policy is {self.policy!r}; expected student_best, teacher_best, random or "
                "fixed:STRATEGY"
            )
        return self


class RationalesConfig(Section):
    """Teaching asks the teacher every problem under the chosen strategy."""

    max_tokens: int = Field(1024, ge=1)
    """Most tokens of the answer to one call."""
    max_attempts: int = Field(4, ge=1, le=64)
    """Most attempts at a problem: the first is greedy, the others are sampled."""
    temperature: float = Field(0.7, gt=0.0)
    """Sampling temperature of the attempts after the first."""
    top_p: float = Field(0.95, gt=0.0, le=1.0)
    """Probability mass of the tokens that these attempts sample from."""
    per_problem: int = Field(1, ge=1, le=64)
    """Most rationales of a problem, each of which becomes a row: the accepted answers of up to
    `max_attempts` attempts, each text once (where thoughts are kept, each text with its thought
    once)."""
    keep_refused: bool = True
    """Whether refused answers are stored beside the accepted ones, so that a corrected grader needs
    no teacher to read them again, and pairs of a right and a wrong answer can be exported."""
    verify: bool = True
    """Whether an answer must match the gold answer to be kept. `false` keeps every finished,
    readable answer, as is always done with open ones."""
    thoughts: Literal["keep", "drop", "refuse"] = "drop"
    """What becomes of a teacher's thought: `"keep"` trains it before the answer, between the
    student's own markers; `"drop"` trains the answer alone; `"refuse"` rejects an attempt with
    one."""

    @model_validator(mode="after")
    def _attempts_suffice(self) -> RationalesConfig:
        if self.per_problem > self.max_attempts:
            raise ValueError(
                f"per_problem is {self.per_problem} and max_attempts is {self.max_attempts}; a "
                "rationale takes an attempt, so raise the second or lower the first"
            )
        return self


class ErasureConfig(Section):
    """Erasure replaces the strategy's instruction by what the student sees."""

    prompts: Literal["erased", "instruction_kept"] = "erased"
    """System message of a training row: the cautious message, or, as an ablation, the instruction
    itself."""


class DatasetConfig(Section):
    """The directory that `datasets.load_from_disk` opens."""

    examples_per_shard: int = Field(50_000, ge=1)
    """Most examples in one Arrow file."""


class EvaluationConfig(Section):
    """Evaluation scores a model on held-out problems."""

    tasks: Annotated[tuple[TaskConfig, ...], FROM_LIST] = ()
    """Files of held-out problems."""
    messages: Annotated[tuple[str, ...], FROM_LIST, Field(min_length=1)] = ("cautious",)
    """System messages that the problems are asked under, in turn: `cautious`, `empty` for none, or
    a strategy's name for its instruction."""
    max_tokens: int = Field(512, ge=1)
    """Most tokens of an answer."""

    @field_validator("messages")
    @classmethod
    def _messages_differ(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if twice := [name for name in value if value.count(name) > 1]:
            raise ValueError(f"{twice[0]!r} is given twice; keep one")
        return value


class Config(Section):
    """A whole run."""

    run_dir: PathText
    """Directory of the run, for all its files."""
    run_seed: int = Field(0, ge=0)
    """Seed of the problems' permutation, of a random choice and of sampled attempts."""
    template_date: Day | None = None
    """The day, as YYYY-MM-DD, that chat templates take for today. If not set, the run's first day,
    which the run records."""
    strategies: PathText | None = None
    """Strategies file. If not set, the package's own."""
    taxonomy: PathText | None = None
    """File with every task's category and sub-category (orca2_gen/tasks/taxonomy.py). If not
    set, those of its rows."""
    rows_per_unit: int = Field(256, ge=1, le=65_536)
    """Problems of one committed unit outside scoring."""
    tasks: Annotated[tuple[TaskConfig, ...], FROM_LIST, Field(min_length=1)]
    """Files of problems, from which the dataset is made."""
    decontaminate: DecontaminateConfig | None = None
    """Which rows are rejected as copies. If not set, as in a section without keys."""
    student: EngineConfig
    """Model that the data is for."""
    teacher: EngineConfig
    """Model that writes the rationales."""
    judge: EngineConfig | None = None
    """Model that judges the answers of open tasks, held-out ones too; another one than those whose
    answers it judges."""
    scoring: ScoringConfig = ScoringConfig()
    """How strategies are scored."""
    judging: JudgingConfig = JudgingConfig()
    """How open answers are judged."""
    selection: SelectionConfig = SelectionConfig()
    """How a strategy is chosen."""
    rationales: RationalesConfig = RationalesConfig()
    """How the teacher is asked."""
    erasure: ErasureConfig = ErasureConfig()
    """How the instruction is erased."""
    dataset: DatasetConfig = DatasetConfig()
    """How the dataset is written."""
    dispatch: DispatchConfig = DispatchConfig()
    """How engines are run."""
    training: TrainingConfig = TrainingConfig()
    """How the student is trained."""
    evaluation: EvaluationConfig = EvaluationConfig()
    """How a model is evaluated."""

    @property
    def held_out_files(self) -> tuple[TaskConfig, ...]:
        """The tasks that read `decontaminate.files`."""
        return tuple(file.task for file in self.decontaminate.files) if self.decontaminate else ()

    @property
    def held_out(self) -> tuple[TaskConfig, ...]:
        """All that the dataset must hold no copy of."""
        if self.decontaminate is None or not self.decontaminate.contamination:
            return ()
        return (*self.evaluation.tasks, *self.held_out_files)

    @property
    def every_task(self) -> tuple[TaskConfig, ...]:
        """Every task that the config names: of the dataset, of evaluation, held out elsewhere."""
        return (*self.tasks, *self.evaluation.tasks, *self.held_out_files)

    @property
    def judge_of_open(self) -> EngineConfig | None:
        """The judge if any task is open, else None. Open problems must fit it whatever the policy
        is, so that the arms of an ablation share their problems.
        """
        return self.judge if any(task.answer_type == "open" for task in self.tasks) else None

    @property
    def needed_judge(self) -> EngineConfig | None:
        """The judge if any task is open and the policy needs scores, else None."""
        return self.judge_of_open if self.selection.needs_scores else None

    @property
    def judge_of_held_out(self) -> EngineConfig | None:
        """The judge if any task of evaluation is open, else None."""
        is_open = any(task.answer_type == "open" for task in self.evaluation.tasks)
        return self.judge if is_open else None

    @property
    def asked_judge(self) -> EngineConfig | None:
        """The judge if a dataset or an evaluation asks it, else None."""
        return self.needed_judge or self.judge_of_held_out

    @model_validator(mode="after")
    def _replicas_reach_the_floor(self) -> Config:
        engines = {"student": self.student, "teacher": self.teacher, "judge": self.asked_judge}
        for name, engine in engines.items():
            if engine is not None and engine.replicas < self.dispatch.min_replicas:
                raise ValueError(
                    f"dispatch.min_replicas is {self.dispatch.min_replicas} and {name}.replicas is "
                    f"{engine.replicas}, so a run would stop before it starts; lower the first or "
                    "raise the second"
                )
        return self

    @model_validator(mode="after")
    def _a_thought_leaves_room_for_the_answer(self) -> Config:
        asked = [
            ("student", self.student, "scoring.max_tokens", self.scoring.max_tokens),
            ("student", self.student, "evaluation.max_tokens", self.evaluation.max_tokens),
            ("teacher", self.teacher, "rationales.max_tokens", self.rationales.max_tokens),
            ("judge", self.asked_judge, "judging.max_tokens", self.judging.max_tokens),
        ]
        for name, engine, key, max_tokens in asked:
            limit = engine.thinking_tokens if engine is not None else None
            if limit is not None and limit >= max_tokens:
                raise ValueError(
                    f"{name}.thinking_tokens is {limit}, and {key} is {max_tokens}, thought and "
                    "answer together; lower the first or raise the second"
                )
        return self

    @model_validator(mode="after")
    def _open_answers_can_be_judged(self) -> Config:
        names = [task.name for task in self.tasks if task.answer_type == "open"]
        if names and self.selection.needs_scores and self.judge is None:
            raise ValueError(
                f"task {names[0]!r} is open, so the policy {self.selection.policy} needs a judge; "
                "add a section [judge] with another model than the one that is scored"
            )
        held_out = [task.name for task in self.evaluation.tasks if task.answer_type == "open"]
        if held_out and self.judge is None:
            raise ValueError(
                f"evaluation.tasks: {held_out[0]!r} is open, so evaluation needs a judge; add a "
                "section [judge] with another model than those that are evaluated"
            )
        return self

    @model_validator(mode="after")
    def _task_names_are_unique(self) -> Config:
        for place, tasks in (("tasks", self.tasks), ("evaluation.tasks", self.evaluation.tasks)):
            # Files are named after tasks, and not every file system tells capitals from others.
            folded = [task.name.casefold() for task in tasks]
            for index, name in enumerate(folded):
                if (first := folded.index(name)) != index:
                    raise ValueError(
                        f"{place}.{first}.name and {place}.{index}.name are {tasks[first].name!r} "
                        f"and {tasks[index].name!r}; names must differ in more than capital "
                        "letters, so change one"
                    )
        return self

    @model_validator(mode="after")
    def _no_example_is_held_out(self) -> Config:
        check_held_out(self.tasks, self.evaluation.tasks)
        return self
