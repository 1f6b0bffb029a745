"""vLLM's own `LLM` in a process of its own: nothing here needs Ray, nor Arrow."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from benchmarks.throughput.workload import Pass, Prompt
from orca2_gen.config.engine import VLLMEngineConfig
from orca2_gen.engine import engine_arguments, set_engine_environment

CLOSE_SECONDS = 60.0


def serve_raw(pipe: Any, config: VLLMEngineConfig) -> None:
    """Serves a RawEngine in a process that holds an `LLM` and nothing of Ray or of this project."""
    os.dup2(2, 1)  # vLLM logs to stdout, which is for the tables and the document
    set_engine_environment(config)
    from vllm import LLM, SamplingParams
    from vllm.inputs import TokensPrompt

    arguments = engine_arguments(config, None)
    del arguments["enable_log_requests"]  # only AsyncLLM takes it
    try:
        llm = LLM(**arguments)
        one = SamplingParams(max_tokens=1)
        llm.generate(TokensPrompt(prompt_token_ids=[1]), one, use_tqdm=False)
    except Exception as error:
        pipe.send(f"{type(error).__name__}: {' '.join(str(error).split())}")
        raise
    pipe.send("")
    while (job := pipe.recv()) is not None:
        prompts, batch_size, ignore_eos = job
        requests = [TokensPrompt(prompt_token_ids=list(p.token_ids)) for p in prompts]
        sampling = [
            SamplingParams(temperature=0.0, max_tokens=p.max_tokens, ignore_eos=ignore_eos)
            for p in prompts
        ]
        pipe.send(None)
        pipe.recv()
        outputs = []
        for first in range(0, len(requests), batch_size):
            batch = slice(first, first + batch_size)
            outputs += llm.generate(requests[batch], sampling[batch], use_tqdm=False)
        pipe.send(None)
        completion_tokens = sum(len(output.outputs[0].token_ids) for output in outputs)
        pipe.send((completion_tokens, sum(output.num_cached_tokens or 0 for output in outputs)))
    llm.llm_engine.engine_core.shutdown()  # LLM has no close and would leave its processes


class RawEngine:
    """`LLM.generate` with token ids, in a process of its own."""

    def __init__(self, config: VLLMEngineConfig) -> None:
        """Returns when the engine has generated a token.

        Raises:
            RuntimeError: it does not start; what its processes wrote on stderr says more.
        """
        started = time.perf_counter()
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=serve_raw, args=(theirs, config))
        self._process.start()
        theirs.close()
        try:
            failure: str = self._pipe.recv()
        except EOFError:
            failure = "its process has ended"
        if failure:
            raise RuntimeError(f"vLLM's LLM did not start: {failure}")
        self.cold_start_seconds = time.perf_counter() - started

    @property
    def pid(self) -> int:
        """The id of the process that holds it."""
        assert self._process.pid is not None
        return self._process.pid

    def generate(
        self, prompts: Sequence[Prompt], *, batch_size: int | None = None, ignore_eos: bool = False
    ) -> Pass:
        """One pass: all prompts in one call, or one blocking call per batch if a size is given."""
        self._pipe.send((list(prompts), batch_size or len(prompts), ignore_eos))
        self._pipe.recv()
        started = time.perf_counter()
        self._pipe.send(None)
        self._pipe.recv()
        seconds = time.perf_counter() - started
        completion_tokens, cached_tokens = self._pipe.recv()
        return pass_of(seconds, prompts, completion_tokens, cached_tokens)

    def close(self) -> None:
        """Ends the engine and its processes."""
        with suppress(OSError):  # it may be dead already
            self._pipe.send(None)
        self._process.join(CLOSE_SECONDS)
        if self._process.is_alive():
            self._process.terminate()


def pass_of(
    seconds: float, prompts: Sequence[Prompt], completion_tokens: int, cached_tokens: int
) -> Pass:
    """The Pass of these prompts."""
    return Pass(
        seconds=seconds,
        requests=len(prompts),
        prompt_tokens=sum(len(prompt.token_ids) for prompt in prompts),
        completion_tokens=completion_tokens,
        cached_tokens=cached_tokens,
    )
