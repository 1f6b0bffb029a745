"""The sections and keys of a config file, as frozen models; the names are vLLM's, Ray's and torch's
own words.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from orca2_gen.config.engine import EngineConfig
from orca2_gen.config.section import Fraction, Name, Section
from orca2_gen.config.task import TaskConfig, check_held_out
from orca2_gen.selection.blocks import MOST_IN_BLOCK


class ScoringConfig(Section):
    """How the student is scored on a problem under a strategy: greedily."""

    max_tokens: int = Field(512, ge=1)
    """Of one call."""
    retry_max_tokens: int | None = Field(None, ge=1)
    """Of a second attempt at a call that took all of max_tokens, since a thought cut short is not a
    wrong answer. None takes twice max_tokens; max_tokens itself makes no second attempt."""

    @property
    def most_tokens(self) -> int:
        """Of one call, a second attempt included."""
        return 2 * self.max_tokens if self.retry_max_tokens is None else self.retry_max_tokens

    @model_validator(mode="after")
    def _retry_is_larger(self) -> ScoringConfig:
        if self.most_tokens < self.max_tokens:
            raise ValueError(
                f"retry_max_tokens is {self.retry_max_tokens}, less than max_tokens, "
                f"{self.max_tokens}; give more, or as many for no second attempt"
            )
        return self


class JudgingConfig(Section):
    """How the judge is asked about an open answer: once, greedily."""

    max_tokens: int = Field(256, ge=1)
    """Of its reply; a judge that thinks before it speaks needs more."""


class SelectionConfig(Section):
    """How scores become one strategy per task, or per category."""

    policy: str = "student_best"
    """student_best, teacher_best, random or fixed:STRATEGY."""
    select_by: Literal["task", "category", "sub_category"] = "task"
    """Whose problems get one strategy together. A problem without a category counts by its task's
    name."""
    method: Literal["race", "full_grid"] = "race"
    """race: a strategy is scored no further once it cannot be the winner. full_grid: every strategy
    is scored on all problems, as those of a task (or category) with open problems always are."""
    delta: float = Field(0.05, gt=0.0, lt=1.0)
    """Of a race: the chance per task (or category), at most, that the full grid has another
    winner."""
    scored_problems: int = Field(200, ge=1)
    """At most so many problems of a task (or category) are scored, in a seeded permutation; all of
    them are taught."""
    block_size: int = Field(32, ge=1, le=MOST_IN_BLOCK)
    """Problems of a task (or category) that are scored and committed together. In a race none is
    scored further before all of a block are."""
    open_requests: int = Field(1024, ge=1)
    """Of a race: with so few tasks, or so few strategies left, that their blocks make fewer
    requests than this, blocks are larger, up to 64 problems, so that engines do not run empty.
    About 1024 for every two engines of max_num_seqs 256."""
    indifference: Fraction = 0.0
    """Strategies within this of the highest mean tie, and the one with the fewest completion tokens
    wins."""
    none_solved: Name = "direct_answer"
    """The strategy of a task that no strategy solves even once."""
    cautious_arm: bool = False
    """Whether the cautious message is scored beside the strategies, to compare; it cannot win."""

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
    """How the teacher is asked."""

    max_tokens: int = Field(1024, ge=1)
    max_attempts: int = Field(4, ge=1, le=64)
    """The first is greedy, the others are sampled."""
    temperature: float = Field(0.7, gt=0.0)
    top_p: float = Field(0.95, gt=0.0, le=1.0)
    verify: bool = True
    """Only answers that match gold are kept; False keeps every finished, readable answer (both arms
    are real), as is done with open ones in any case."""


class ErasureConfig(Section):
    """What the student sees in place of the strategy's instruction."""

    prompts: Literal["erased", "instruction_kept"] = "erased"
    """instruction_kept leaves the instruction in: an ablation."""


class DatasetConfig(Section):
    """The `datasets` directory."""

    examples_per_shard: int = Field(50_000, ge=1)


class TrainingConfig(Section):
    """The fine-tuning run, `torchrun -m train.sft CONFIG`."""

    model: str | None = None
    """Directory of the model to start from; None takes the student's."""
    output: str | None = None
    """Directory of the trained student; None takes `RUN/student`."""
    prompts: Literal["erased", "instruction_kept", "foreign"] = "erased"
    """What the dataset's manifest must say of its prompts."""
    seq_len: int = Field(4096, ge=16)
    rows_per_step: int = Field(32, ge=1)
    """Packed rows of one optimizer step, over all ranks."""
    num_epochs: int = Field(3, ge=1)
    num_steps: int | None = Field(None, ge=1)
    """Overrides num_epochs."""
    learning_rate: float = Field(2e-5, gt=0.0)
    warmup_fraction: Fraction = 0.04
    optimizer: Literal["adamw", "muon"] = "adamw"
    weight_decay: float = Field(0.0, ge=0.0)
    max_grad_norm: float = Field(1.0, gt=0.0)
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    """Of the forward and backward computation; weights and optimizer state are float32."""
    seed: int = Field(0, ge=0)
    max_rows_per_task: dict[str, Annotated[int, Field(ge=0)]] = Field(default_factory=dict)
    """Of these tasks only the dataset's first so many rows are trained on; the others whole."""
    save_every_steps: int | None = Field(None, ge=1)
    """A training-state checkpoint this often; None only at the end."""
    rows_per_forward: int | None = Field(None, ge=1)
    """Rows of one forward pass on a rank, as many as fit its memory; None takes all of its step."""
    gradient_checkpointing: bool = False


class EvaluationConfig(Section):
    """Held-out problems, under the cautious message, under none, or under both."""

    tasks: tuple[TaskConfig, ...] = ()
    messages: tuple[Literal["cautious", "empty"], ...] = ("cautious",)
    max_tokens: int = Field(512, ge=1)


class DispatchConfig(Section):
    """In which order engines run, and what a run puts up with before it stops; never part of a
    stage key.
    """

    schedule: Literal["phased", "overlapped"] = "phased"
    """phased: the student's engines are gone before the teacher's load. overlapped: the teacher
    starts on tasks that are decided while others are still scored, as far as there is room for
    both. A run whose open answers are judged is phased, since that comes in between, and so is one
    of policy teacher_best."""

    max_failed_starts: int = Field(3, ge=1)
    """A replica that fails so often in a row to start is given up; the others go on."""
    backoff_seconds: float = Field(1.0, ge=0.0)
    """Before a replica is started again; doubled with every failure in a row, up to a minute."""
    start_seconds: float = Field(1800.0, gt=0.0)
    """In which an engine must be up, waiting for its GPUs included."""
    min_replicas: int = Field(1, ge=1)
    """With fewer engines left the run stops."""
    stall_seconds: float = Field(300.0, gt=0.0)
    """An engine that generates no token for so long, with requests open, is started anew."""
    request_seconds: float | None = Field(None, gt=0.0)
    """A request that takes longer, its wait for a place in the batch included, is cut off and
    counts as truncated. None: no limit, since with one, rows depend on how fast the machine was."""
    max_rejection_rate: Fraction = 0.95
    """Of a stage's rows: above it, once rejection_rows rows are in, the run stops."""
    rejection_rows: int = Field(1000, ge=1)


class Config(Section):
    """A whole run."""

    run_dir: str = Field(min_length=1)
    run_seed: int = Field(0, ge=0)
    strategies: str | None = None
    """A strategies file; None takes the package's own."""
    taxonomy: str | None = None
    """A file with every task's category and sub-category (tasks/taxonomy.py)."""
    rows_per_unit: int = Field(256, ge=1, le=65_536)
    """Problems of one committed unit outside scoring."""
    tasks: tuple[TaskConfig, ...] = Field(min_length=1)
    student: EngineConfig
    teacher: EngineConfig
    judge: EngineConfig | None = None
    """Judges the answers of open tasks; another model than the one that is scored."""
    scoring: ScoringConfig = ScoringConfig()
    judging: JudgingConfig = JudgingConfig()
    selection: SelectionConfig = SelectionConfig()
    rationales: RationalesConfig = RationalesConfig()
    erasure: ErasureConfig = ErasureConfig()
    dataset: DatasetConfig = DatasetConfig()
    dispatch: DispatchConfig = DispatchConfig()
    training: TrainingConfig = TrainingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()

    @property
    def judge_of_open(self) -> EngineConfig | None:
        """The judge, if any task is open: every such problem must fit it whatever the policy is, so
        that the arms of an ablation share their problems.
        """
        return self.judge if any(task.answer_type == "open" for task in self.tasks) else None

    @property
    def needed_judge(self) -> EngineConfig | None:
        """The judge, if any task is open and the policy needs scores; else None."""
        return self.judge_of_open if self.selection.needs_scores else None

    @model_validator(mode="after")
    def _replicas_reach_the_floor(self) -> Config:
        engines = {"student": self.student, "teacher": self.teacher, "judge": self.needed_judge}
        for name, engine in engines.items():
            if engine is not None and engine.replicas < self.dispatch.min_replicas:
                raise ValueError(
                    f"dispatch.min_replicas is {self.dispatch.min_replicas} and {name}.replicas is "
                    f"{engine.replicas}; a run would stop before it starts"
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
        for task in self.evaluation.tasks:
            if task.answer_type == "open":
                raise ValueError(
                    f"evaluation.tasks: {task.name!r} is open, and evaluation asks no judge yet; "
                    "leave the task out"
                )
        return self

    @model_validator(mode="after")
    def _task_names_are_unique(self) -> Config:
        for place, tasks in (("tasks", self.tasks), ("evaluation.tasks", self.evaluation.tasks)):
            names = [task.name for task in tasks]
            for name in names:
                if names.count(name) > 1:
                    raise ValueError(
                        f"{place} holds {name!r} {names.count(name)} times; task names must differ"
                    )
        return self

    @model_validator(mode="after")
    def _no_example_is_held_out(self) -> Config:
        check_held_out(self.tasks, self.evaluation.tasks)
        return self
