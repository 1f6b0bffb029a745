"""`Engine`: token ids in, one Completion out; and vLLM's AsyncLLM as one.

An engine is asynchronous and takes any number of requests at once: it batches them as they come, so
no caller waits for a batch. The other engine is the scripted one (scripted_engine.py).
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import Any, Protocol

from orca2_gen.config.engine import VLLMEngineConfig
from orca2_gen.records import Completion

OWN_KEYS = {
    *("engine", "replicas", "env", "env_allowed", "system", "template_arguments"),
    *("thinking", "thinking_tokens", "license"),
}
"""Keys of an engine's section that are not vLLM's."""
WARM_UP = "warm-up"
"""Stands for a problem's id where an engine only has to show that it generates."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """One prompt and how to sample from it; the first five fields are the Completion's identity."""

    problem_id: str
    role: str
    strategy: str
    call: int
    attempt: int
    prompt_token_ids: tuple[int, ...]
    max_tokens: int
    min_tokens: int = 0
    """Tokens before which no token may end the completion."""
    temperature: float = 0.0
    top_p: float = 1.0
    run_seed: int = 0

    @property
    def request_id(self) -> str:
        return "|".join(
            (self.role, self.strategy, str(self.call), str(self.attempt), self.problem_id)
        )

    @property
    def seed(self) -> int:
        """The sampling seed: a hash of identity and run seed, not of batch order or restarts."""
        return int(uniform(self.run_seed, self.request_id) * (1 << 53)) & 0x7FFFFFFF

    def completion(
        self,
        *,
        text: str,
        finish_reason: str,
        num_cached_tokens: int,
        num_completion_tokens: int,
        token_ids: tuple[int, ...] = (),
    ) -> Completion:
        """The Completion of this request, under the request's own identity."""
        return Completion(
            problem_id=self.problem_id,
            role=self.role,
            strategy=self.strategy,
            call=self.call,
            attempt=self.attempt,
            text=text,
            finish_reason=finish_reason,
            num_prompt_tokens=len(self.prompt_token_ids),
            num_cached_tokens=num_cached_tokens,
            num_completion_tokens=num_completion_tokens,
            token_ids=token_ids,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineLoad:
    """What an engine does at one moment, as far as it tells."""

    num_running: int = 0
    """Requests in its batch."""
    cache_usage: float = 0.0
    """Share of its KV cache in use, from 0 to 1."""
    num_preemptions: int = 0
    """Requests that gave up their place in the cache so far, to be computed again."""


class Engine(Protocol):
    """Generates; knows no strategy, no grading and no file."""

    async def generate(self, request: Request) -> Completion:
        """The Completion of one request. May be awaited many times at once."""
        ...

    @property
    def is_dead(self) -> bool:
        """Whether its processes are gone for good, so that only a new engine can continue."""
        ...

    @property
    def num_generated_tokens(self) -> int:
        """Tokens generated for all requests so far, unfinished ones included: the sign of life."""
        ...

    @property
    def load(self) -> EngineLoad:
        """What it does now."""
        ...

    def close(self) -> None:
        """Ends the engine and its processes."""
        ...


class VLLMEngine:
    """The AsyncLLM of vLLM 0.26 to 0.33, with every value set by us."""

    def __init__(self, config: VLLMEngineConfig, executor: str | None) -> None:
        """Loads the model and returns when it can generate.

        Args:
            config: all values of the engine.
            executor: vLLM's distributed_executor_backend; None for a single rank.
        """
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.v1.engine.async_llm import AsyncLLM

        self.counts = StepCounts()
        self._llm = AsyncLLM.from_engine_args(
            AsyncEngineArgs(**engine_arguments(config, executor)),
            stat_loggers=[lambda vllm_config, engine_index: self.counts],
        )
        self._starts = 0

    async def generate(self, request: Request) -> Completion:
        from vllm import SamplingParams
        from vllm.inputs import TokensPrompt
        from vllm.sampling_params import RequestOutputKind

        sampling = SamplingParams(
            temperature=request.temperature,
            top_p=request.top_p,
            max_tokens=request.max_tokens,
            min_tokens=request.min_tokens,
            seed=request.seed if request.temperature > 0 else None,
            # One RequestOutput at the end: the default makes one per live request and step.
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        self._starts += 1
        # vLLM refuses a request id that is still in flight, as a repeated lease's may be.
        request_id = f"{request.request_id}|{self._starts}"
        prompt = TokensPrompt(prompt_token_ids=list(request.prompt_token_ids))
        final: Any = None
        async for output in self._llm.generate(prompt, sampling, request_id):
            final = output
        completion = final.outputs[0]
        return request.completion(
            text=completion.text,
            finish_reason=completion.finish_reason,
            num_cached_tokens=final.num_cached_tokens or 0,
            num_completion_tokens=len(completion.token_ids),
            token_ids=tuple(completion.token_ids),
        )

    @property
    def is_dead(self) -> bool:
        return bool(self._llm.errored)

    @property
    def num_generated_tokens(self) -> int:
        return self.counts.generated_tokens

    @property
    def load(self) -> EngineLoad:
        return EngineLoad(
            num_running=self.counts.num_running,
            cache_usage=self.counts.cache_usage,
            num_preemptions=self.counts.preemptions,
        )

    def close(self) -> None:
        self._llm.shutdown()


class StepCounts:
    """Totals of all vLLM steps so far and the state after the last; has the methods of its
    `StatLoggerBase`.

    Requests report only when they are done (FINAL_ONLY), so only these totals show that a long one
    advances.
    """

    def __init__(self) -> None:
        self.generated_tokens = 0
        self.preemptions = 0
        self.num_running = 0
        self.cache_usage = 0.0

    def record(self, scheduler_stats: Any, iteration_stats: Any, *_: Any, **__: Any) -> None:
        if iteration_stats is not None:
            self.generated_tokens += iteration_stats.num_generation_tokens
            self.preemptions += iteration_stats.num_preempted_reqs
        if scheduler_stats is not None:
            self.num_running = scheduler_stats.num_running_reqs
            self.cache_usage = scheduler_stats.kv_cache_usage

    def log_engine_initialized(self) -> None:
        pass

    def log(self) -> None:
        pass


def engine_arguments(config: VLLMEngineConfig, executor: str | None) -> dict[str, Any]:
    """Keywords of vLLM's AsyncEngineArgs for a config: all that is set passes, but OWN_KEYS."""
    # What is not set is left to vLLM: its None may be another default than our None.
    ours = config.model_dump(exclude=OWN_KEYS | {"engine_arguments"}, exclude_none=True)
    # Ours come last, although the check of a config lets no other value for them through.
    return {"load_format": "safetensors", **config.engine_arguments, **ours} | {
        "trust_remote_code": False,
        "enable_log_requests": False,  # prompts are the user's data
        "disable_log_stats": True,
        "seed": 0,
        "distributed_executor_backend": executor,
    }


_USUAL_ENVIRONMENT = {
    "VLLM_LOGGING_LEVEL": "WARNING",
    # FlashInfer's sampler is compiled with nvcc when an engine starts. vLLM never uses it for our
    # requests: they are greedy, or have a seed of their own (vLLM 0.32: topk_topp_sampler.py).
    "VLLM_USE_FLASHINFER_SAMPLER": "0",
    # A crash below Python then leaves its place in the engine's log.
    "PYTHONFAULTHANDLER": "1",
}
"""Variables of an engine's process, unless the node's environment or the config sets them."""


def set_engine_environment(config: VLLMEngineConfig) -> None:
    """Sets the variables vLLM reads on import; call it before the first VLLMEngine of a process."""
    for name, value in _USUAL_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    os.environ.update({"VLLM_ALLOW_INSECURE_SERIALIZATION": "0"} | config.env)


def cut_off(request: Request) -> Completion:
    """The Completion of a request that took too long and was given up: no text, not finished."""
    return request.completion(
        text="", finish_reason="length", num_cached_tokens=0, num_completion_tokens=0
    )


def uniform(seed: int, key: str) -> float:
    """A number in [0, 1) that depends on seed and key alone."""
    return int.from_bytes(hashlib.blake2b(f"{seed}|{key}".encode(), digest_size=7).digest()) / (
        1 << 56
    )
