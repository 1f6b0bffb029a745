"""The project's one fake: an Engine that answers by a script, and the scripts with planted answers.

Rehearsals of real jobs and tests use it; it is deterministic in the request alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from orca2_gen.chat import Chat, encode_text
from orca2_gen.engine import WARM_UP, EngineLoad, Request, uniform
from orca2_gen.grading.forced_endings import OPENING
from orca2_gen.judging import answer_in
from orca2_gen.records import Completion, Problem

Script = Callable[[Request], str | Sequence[int]]
"""A request -> the text of its answer, or the ids of one that has markers in it, without its end.
"""


class ScriptedEngine:
    """Answers by a script instead of a model, deterministic in the request alone."""

    def __init__(self, chat: Chat, script: Script) -> None:
        self._chat, self._script = chat, script
        self.num_generated_tokens = 0

    async def generate(self, request: Request) -> Completion:
        await asyncio.sleep(0)  # let other requests in, as a real engine does
        said = self._script(request)
        ids = encode_text(self._chat, said) if isinstance(said, str) else list(said)
        cut = len(ids) >= request.max_tokens
        self.num_generated_tokens += len(ids)
        made = ids[: request.max_tokens] if cut else [*ids, self._chat.end_id]
        return request.completion(
            text=said if isinstance(said, str) and not cut else self._text(made),
            finish_reason="length" if cut else "stop",
            num_cached_tokens=0,
            num_completion_tokens=len(made),
            token_ids=tuple(made),
        )

    def _text(self, ids: Sequence[int]) -> str:
        """The text of generated ids, as vLLM shows it."""
        shown: str = self._chat.tokenizer.decode(list(ids), skip_special_tokens=True)
        return shown

    @property
    def is_dead(self) -> bool:
        return False

    @property
    def load(self) -> EngineLoad:
        return EngineLoad()

    def close(self) -> None:
        pass


def planted_script(
    problems: Mapping[str, Problem],
    accuracy: Mapping[str, float],
    run_seed: int,
    read: Callable[[Sequence[int]], str],
) -> Script:
    """A script that judges correctly, and answers so with a planted probability per strategy.

    Args:
        problems: by id; may be filled later, since each request reads it.
        accuracy: by strategy, 0.5 where absent. A problem's difficulty is drawn once for all
            strategies, so that scores are paired as a real student's are.
        run_seed: the seed of the draws.
        read: a prompt's token ids -> its text, in which a judge finds the answer.
    """

    def script(request: Request) -> str:
        if request.problem_id == WARM_UP:
            return "Answer: 2"
        problem = problems[request.problem_id]
        if request.role == "judge":
            return _judgement(problem, answer_in(read(request.prompt_token_ids)))
        draw = uniform(run_seed, f"{request.role}|{request.problem_id}|{request.attempt}")
        rightly = draw < accuracy.get(request.strategy, 0.5)
        # A further call may be a forced ending, which opens the line of the answer itself.
        if request.call and read(request.prompt_token_ids).endswith(OPENING):
            return f" {_line(problem, rightly)}"
        steps = 2 + int(6 * uniform(run_seed, request.request_id))
        working = "" if request.strategy == "direct_answer" else "Let us see. " * steps
        if problem.answer_type == "summary":
            return problem.target if rightly else "I have nothing to say."
        if problem.answer_type == "open":
            return working + (problem.target if rightly else "I have nothing to say.")
        return f"{working}{OPENING} {_line(problem, rightly)}"

    return script


def _line(problem: Problem, rightly: bool) -> str:
    """The right or a wrong answer in one line."""
    return problem.target.replace("\n", "; ") if rightly else _wrong(problem)


def _judgement(problem: Problem, answer: str) -> str:
    if any(target in answer for target in (problem.target, *problem.other_targets)):
        return "It says all that the reference says.\nScore: 5"
    return "It says nothing of what the reference says.\nScore: 1"


def _wrong(problem: Problem) -> str:
    if problem.answer_type == "multiple_choice":
        return "B" if problem.target == "A" else "A"
    if problem.answer_type == "yes_no":
        return "no" if problem.target.lower() in ("yes", "true", "correct") else "yes"
    if problem.answer_type in ("span", "mathematics"):
        return "10007"  # a longer gold text would earn a part of the score
    return f"{problem.target}7"
