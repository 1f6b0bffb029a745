"""The keys of one engine in a config file; the names are vLLM's own."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, field_validator

from orca2_gen.config.section import Fraction, Section

_SECRET = re.compile(r"(^|_)(TOKEN|KEY|SECRET|PASSWORD|CREDENTIALS)$", re.IGNORECASE)


class VLLMEngineConfig(Section):
    """An engine of vLLM's; every value is set, since vLLM's defaults depend on who builds the
    engine.
    """

    engine: Literal["vllm"] = "vllm"
    model: str
    """A local directory of safetensors, with tokenizer and chat template."""
    dtype: Literal["bfloat16", "float16", "float32"] = "bfloat16"
    quantization: str | None = None
    kv_cache_dtype: str = "auto"
    max_model_len: int = Field(4096, ge=16)
    max_num_seqs: int = Field(256, ge=1)
    max_num_batched_tokens: int = Field(8192, ge=32)
    block_size: int = Field(16, ge=1)
    gpu_memory_utilization: Fraction = 0.92
    kv_cache_memory_bytes: int | None = Field(None, ge=1 << 20)
    enable_prefix_caching: bool = True
    enforce_eager: bool = False
    tensor_parallel_size: int = Field(1, ge=1)
    pipeline_parallel_size: int = Field(1, ge=1)
    replicas: int = Field(1, ge=1)
    """Engines of this model, each on its own tensor_parallel_size x pipeline_parallel_size
    devices."""
    env: dict[str, str] = Field(default_factory=dict)
    """Further environment variables of the engine's process, e.g. VLLM_CPU_OMP_THREADS_BIND. A
    config is recorded and travels, so no secret may stand in it."""

    @field_validator("env", mode="before")
    @classmethod
    def _holds_no_secret(cls, env: Any) -> Any:
        # Before the types are looked at: what is said of a wrong one quotes the value.
        found = [name for name in env if _SECRET.search(str(name))] if isinstance(env, dict) else []
        if found:
            raise ValueError(
                f"{found[0]} reads like a secret, and a config is recorded in config.json and in "
                f"Ray's logs; set it in the environment of the nodes instead"
            )
        return env


class ScriptedEngineConfig(Section):
    """The project's own scripted engine: no model, planted accuracies; for rehearsals of real jobs
    and for tests.
    """

    engine: Literal["scripted"]
    tokenizer: str
    """A directory with a tokenizer and a chat template."""
    accuracy: dict[str, Fraction] = Field(default_factory=dict)
    """Share of problems answered rightly, by strategy; what is not named is 0.5."""
    max_model_len: int = Field(4096, ge=16)
    max_num_seqs: int = Field(256, ge=1)
    replicas: int = Field(1, ge=1)


EngineConfig = Annotated[VLLMEngineConfig | ScriptedEngineConfig, Discriminator("engine")]
