"""The records that cross the whole system; every stage takes some of them and returns others.

A record is frozen and keyword-only, and `record_tables.arrow_schema` derives its Arrow columns
from the fields, so the order and names below are also the file format.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Literal, get_args

Role = Literal["student", "teacher", "judge"]
ROLES: tuple[Role, ...] = get_args(Role)
AnswerType = Literal[
    "exact",
    "numeric",
    "multiple_choice",
    "yes_no",
    "list",
    "span",
    "mathematics",
    "summary",
    "open",
]
Outcome = Literal["correct", "incorrect", "truncated", "unparsed", "ungraded"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Shot:
    """A worked example of a task: one of its questions with its gold answer, not formatted."""

    question: str
    target: str
    """The gold answer, as a Problem's, of the answer type of the problem that it precedes."""
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """One item of a task, as its source states it: nothing has been formatted yet."""

    problem_id: str
    """`task/split/index`, from the source's own id where it has one; never a path, stable across
    runs."""
    task: str
    question: str
    target: str
    """The gold answer: a number for numeric, a letter for multiple_choice, yes or no (or true,
    false, correct, incorrect) for yes_no, the items in order for list, one span a line for span, a
    formula with or without LaTeX for mathematics, an answer to compare with for open, else the text
    itself."""
    answer_type: str
    other_targets: tuple[str, ...] = ()
    """Further gold answers: each counts as much as the target."""
    choices: tuple[str, ...] = ()
    """Option texts without their letters, in order; empty unless multiple_choice."""
    category: str = ""
    sub_category: str = ""
    examples: tuple[Shot, ...] = ()
    """Worked examples before the question, in this order; empty unless the task is few-shot."""
    source_file: str = field(default="", compare=False)
    """The task's file that holds the row: its path below the task's directory, or the lone file's
    name; never where the task lies on a machine. Empty in older files. Where a row lies is no part
    of what it asks, so equal problems may lie in different files."""
    source_line: int = field(default=0, compare=False)
    """The row's place in that file, from 1: the line of a text file, the row of a Parquet or Arrow
    file, the item of a JSON array or document. 0 in older files."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rejection:
    """A row that stops here, and why. `problem_id` is `file:line` if the row has no id."""

    problem_id: str
    stage: str
    reason: str
    """One of a few words that can be counted, e.g. `not_json`, `prompt_too_long`, `incorrect`."""
    detail: str
    """What was found, where, and what was expected."""
    attempt: int = 0
    """The attempt of the rationale that stops here, in the stage of examples; 0 where all of a
    problem does, and in older files, where a problem has one rationale."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Completion:
    """An engine's completion of one prompt.

    Identity: (problem_id, role, strategy, call, attempt).
    """

    problem_id: str
    role: str
    strategy: str
    call: int
    attempt: int
    text: str
    finish_reason: str
    """vLLM's word, `stop` or `length`; `unencodable` if the next call's prompt cannot hold a call's
    text."""
    num_prompt_tokens: int
    num_cached_tokens: int
    num_completion_tokens: int
    reasoning: str = ""
    """The model's thought before the text, without the markers around it; empty if it had none."""
    token_ids: tuple[int, ...] = ()
    """The ids that the engine generated, markers and end of turn included; empty in rows of older
    versions, and where several completions are put together as one."""
    is_thought_cut: bool = False
    """Whether the thought used up its tokens, so that it was closed and the answer asked for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StudentScore:
    """One graded answer, with its text, so that a corrected grader can grade it without an engine.

    A strategy of several calls has their joined texts and the sums of their tokens.
    """

    problem_id: str
    task: str
    strategy: str
    """A strategy's name, or in evaluation the name of the system message (`cautious`, `empty`)."""
    role: str
    attempt: int
    """1 if a call was cut short and asked again with a larger budget, else 0."""
    outcome: str
    """correct, incorrect, or why it is neither: truncated, unparsed, ungraded."""
    score: float
    """1.0 iff outcome is correct, else 0.0; for span, summary and open the fraction that the
    outcome rests on."""
    answer: str
    """The answer that the grader read from the text; empty if it found none."""
    text: str
    finish_reason: str
    num_prompt_tokens: int
    num_cached_tokens: int
    num_completion_tokens: int
    completions: tuple[Completion, ...] = ()
    """The engine's completions in order, if there are several: each call, and before its second
    attempt the one cut short, whose tokens the sums leave out."""
    reasoning: str = ""
    token_ids: tuple[int, ...] = ()
    is_thought_cut: bool = False
    judgement: tuple[Completion, ...] = ()
    """The judge's reply, on which outcome and score then rest; empty if it was not asked. Its
    tokens are in no sum here."""
    ending: tuple[Completion, ...] = ()
    """The forced ending of an answer that never came (endings.py), under the number of the call
    after the last one; empty if it was not asked for. Its tokens are in no sum here."""
    ending_is_unread: bool = False
    """True iff the text decides alone after all, under a later grader than the one that left it
    undecided."""

    @property
    def completion(self) -> Completion:
        """The completion that the verdict is on; several calls are one."""
        return Completion(call=0, **{name: getattr(self, name) for name in COMPLETION_FIELDS})

    @property
    def is_forced(self) -> bool:
        """Whether the verdict rests on the forced ending."""
        is_decided = self.outcome in ("correct", "incorrect")
        return bool(self.ending) and is_decided and not self.ending_is_unread

    @property
    def num_answer_tokens(self) -> int:
        """Tokens of the answer, with those of the ending unless the text decides alone."""
        read = () if self.ending_is_unread else self.ending
        return self.num_completion_tokens + sum(each.num_completion_tokens for each in read)


COMPLETION_FIELDS = tuple(f.name for f in fields(Completion) if f.name != "call")
"""Fields that a StudentScore takes over from the completion that it holds the verdict on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StrategySummary:
    """One strategy's row in a Selection."""

    strategy: str
    num_scored: int
    mean: float
    low: float
    """Lower end of the Wilson 95% interval of the mean; `high` is the upper."""
    high: float
    mean_completion_tokens: float
    num_truncated: int
    num_unparsed: int
    num_ungraded: int
    fell_in_block: int
    """The block after which the strategy was out; -1 if it never was."""
    fell_to: str
    """The strategy whose lead it fell to; empty if none."""
    fell_by: str
    """`bet` (selection/race.py), `certain` (the problems left could not make up for the lead), or
    empty."""
    num_thoughts_cut: int = 0
    """Cells whose thought used up its tokens."""
    num_forced: int = 0
    """Cells whose verdict rests on a forced ending."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Selection:
    """The strategy chosen for a group (a task or a category), and what the choice rests on."""

    group: str
    policy: str
    method: str
    """`race`, `full_grid`, or `none` where the policy needs no scores."""
    delta: float
    """Highest chance that the full grid of a race has another winner; else 0."""
    strategy: str
    reason: str
    """`highest_mean` of all problems that may be scored, `fewest_tokens` (a tie within
    `indifference`), `race` (all others fell), `nearly_best` (the cheapest left, none of the others
    better by `indifference`), `none_solved`, `only_strategy`, `fixed` or `random`."""
    indifference: float
    tied: tuple[str, ...]
    """Strategies that are as good as the chosen one within `indifference`, itself included."""
    fragile: bool
    """True iff counting truncated, unparsed and ungraded cells as correct, or forced ones as
    wrong, would change the winner or, in a race, take away the lead that another strategy fell
    to."""
    num_problems: int
    num_scored_problems: int
    summaries: tuple[StrategySummary, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Rationale:
    """A teacher's answer, with the conversation the teacher saw.

    Identity: (problem_id, attempt).
    """

    problem_id: str
    task: str
    strategy: str
    attempt: int
    system: str
    """The system message the teacher saw: the strategy's instruction."""
    user: str
    text: str
    """The teacher's text; with several calls, all their texts (calls.compose)."""
    answer: str
    num_prompt_tokens: int
    num_completion_tokens: int
    further_calls: tuple[str, ...] = ()
    """The user's text in each call after the first."""
    completions: tuple[Completion, ...] = ()
    """Each call's completion, if there are several."""
    reasoning: str = ""
    """The teacher's thought before the text; with several calls, all their thoughts."""
    fault: str = ""
    """The reason why the answer was refused, as in a Rejection; empty if it was accepted."""


def engine_completions(
    row: StudentScore | Rationale,
) -> tuple[Completion | StudentScore | Rationale, ...]:
    """All that the scored or teaching engine made for a row, each with its own tokens."""
    made = row.completions or (row,)
    return (*made, *row.ending) if isinstance(row, StudentScore) else made


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    """One turn of a conversation; `role` is system, user or assistant."""

    role: str
    content: str
    reasoning: str = ""
    """The assistant's thought before the content, which stands between the template's markers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """One training conversation, already encoded: its reader tokenises nothing.

    The label shift is not done here; the model does it.
    """

    problem_id: str
    task: str
    strategy: str
    """The strategy behind the rationale: for analysis, never part of the prompt."""
    messages: tuple[Message, ...]
    input_ids: tuple[int, ...]
    """Prompt and answer, by `chat.encode_conversation`, ending with the end-of-turn token."""
    num_prompt_tokens: int
    """`input_ids[:num_prompt_tokens]` is the prompt: no loss there."""
    attempt: int = 0
    """The teacher's attempt: a problem may have several rationales. Older files lack it; there a
    problem has one."""
