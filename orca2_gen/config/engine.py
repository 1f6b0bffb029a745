"""The keys of one model's engines in a config file; the names are vLLM's own."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Discriminator,
    Field,
    JsonValue,
    ValidationInfo,
    field_validator,
    model_validator,
)

from orca2_gen.config.argument_checks import check_arguments
from orca2_gen.config.engine_arguments import data_parallel_size, times_devices
from orca2_gen.config.secrecy import is_secret_name
from orca2_gen.config.section import FROM_LIST, Fraction, License, PathText, Section
from orca2_gen.offline import OFFLINE_ENVIRONMENT

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ENV_PREFIXES = (
    *("VLLM_", "NCCL_", "CUDA_", "CUBLAS_", "CUDNN_", "FLASHINFER_", "HIP_", "ROCR_", "OMP_"),
    *("KMP_", "MKL_", "OPENBLAS_", "NUMEXPR_", "GLOO_", "UCX_", "FI_", "TORCH_", "PYTORCH_"),
    *("TORCHINDUCTOR_", "TRITON_", "TOKENIZERS_", "RAY_"),
)
_ENV_NAMES = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")
_PINNED = {
    name: value for name, value in OFFLINE_ENVIRONMENT.items() if name != "TOKENIZERS_PARALLELISM"
} | {
    "VLLM_ALLOW_INSECURE_SERIALIZATION": "0",  # else ranks take pickles
    "VLLM_USE_MODELSCOPE": "0",
    "VLLM_USAGE_STATS_SERVER": "",
    "VLLM_LOGGING_CONFIG_PATH": "",  # a logging config names classes to make
}
"""Variable -> the only value that a config may give it."""
_SHOWN_PREFIXES = "VLLM_, NCCL_, CUDA_, OMP_, TORCH_ ..."


def _checked_markers(value: tuple[str, ...]) -> tuple[str, ...]:
    if value and (len(value) != 2 or not all(text.strip() for text in value)):
        raise ValueError(
            f"{list(value)!r}: expected two markers, the beginning's and the end's, or none"
        )
    if value and value[0].strip() == value[1].strip():
        raise ValueError(f"{value[0]!r} is given twice; expected two different markers")
    return value


Markers = Annotated[tuple[str, ...], FROM_LIST, AfterValidator(_checked_markers)]
"""The markers that begin and end a thought, or none."""


class VLLMEngineConfig(Section):
    """A vLLM engine. Every key is set here, since vLLM's own defaults depend on how an engine is
    built.
    """

    engine: Literal["vllm"] = "vllm"
    """vLLM runs the model."""
    model: PathText
    """Local directory of the model: safetensors, tokenizer and chat template."""
    license: License | None = None
    """License of the model, as an SPDX or Hugging Face name, for the dataset's card. If not set,
    what the model's own README.md says."""
    dtype: Literal["bfloat16", "float16", "float32"] = "bfloat16"
    """vLLM's `dtype`: number format of weights and activations."""
    quantization: str | None = None
    """vLLM's `quantization`: how the weights are quantized, e.g. `"fp8"`. If not set, what the
    model's own config says."""
    kv_cache_dtype: str = "auto"
    """vLLM's `kv_cache_dtype`: number format of the KV cache; `"auto"` is that of the model."""
    max_model_len: int = Field(4096, ge=16)
    """vLLM's `max_model_len`: most tokens of a prompt and its answer together. A problem that may
    need more is rejected before an engine starts."""
    system: Literal["message", "fold"] = "message"
    """Place of the system text: `"message"` is a message of its own, `"fold"` puts it before the
    first user text, for a model whose chat template takes no system message."""
    template_arguments: dict[str, JsonValue] = Field(default_factory=dict)
    """Further variables of the model's chat template, e.g. `{ enable_thinking = false }`: in
    scoring, teaching, judging, training and evaluation alike."""
    thinking_tokens: int | None = Field(None, ge=1)
    """Most tokens of a thought, after which it is closed and the model goes on with its answer. If
    not set, a thought ends where the model ends it."""
    thinking: Markers = ()
    """The markers that begin and end a thought, e.g. `["<thought>", "</thought>"]`, for a model
    whose template and tokenizer do not show them."""
    max_num_seqs: int = Field(256, ge=1)
    """vLLM's `max_num_seqs`: most sequences in one batch."""
    max_num_batched_tokens: int = Field(8192, ge=32)
    """vLLM's `max_num_batched_tokens`: most tokens in one step of the engine."""
    block_size: int | None = Field(None, ge=1)
    """vLLM's `block_size`: tokens in one block of the KV cache. If not set, what the model's
    attention takes on the device: some take one size only."""
    gpu_memory_utilization: float = Field(0.92, gt=0.0, le=1.0)
    """vLLM's `gpu_memory_utilization`: share of a GPU's memory that the engine takes."""
    kv_cache_memory_bytes: int | None = Field(None, ge=1 << 20)
    """vLLM's `kv_cache_memory_bytes`: bytes of KV cache on each device. If not set,
    gpu_memory_utilization decides."""
    enable_prefix_caching: bool = True
    """vLLM's `enable_prefix_caching`: whether prompts that begin alike share that part of the KV
    cache."""
    enforce_eager: bool = False
    """vLLM's `enforce_eager`: whether PyTorch runs in eager mode, without CUDA graphs."""
    tensor_parallel_size: int = Field(1, ge=1)
    """vLLM's `tensor_parallel_size`: devices that share the work of each layer."""
    pipeline_parallel_size: int = Field(1, ge=1)
    """vLLM's `pipeline_parallel_size`: groups of devices that share the layers."""
    replicas: int = Field(1, ge=1)
    """Number of engines of this model, each on tensor_parallel_size x pipeline_parallel_size
    devices of its own, times data_parallel_size if `engine_arguments` sets it."""
    engine_arguments: dict[str, JsonValue] = Field(default_factory=dict)
    """Further arguments of vLLM's AsyncEngineArgs, e.g. `{ speculative_config = { method =
    "ngram", num_speculative_tokens = 4 } }`: names and types are those of the vLLM that is
    installed. Refused are those that run other code than vLLM's, hold secrets, read pickles or
    decide what the run decides. docs/models.md lists those that are no part of stage keys."""
    env_allowed: Annotated[tuple[str, ...], FROM_LIST] = ()
    """Names of variables that `env` may set besides those of vLLM, PyTorch and what they stand on
    (`VLLM_`, `NCCL_`, `CUDA_`, `OMP_`, `TORCH_`, `TRITON_`, `RAY_` and the like), e.g.
    `LD_LIBRARY_PATH`."""
    env: dict[str, str] = Field(default_factory=dict)
    """Further environment variables of the engine's process, e.g. `VLLM_CPU_OMP_THREADS_BIND`. A
    config is recorded and travels, so a name or value that reads like a secret is refused, and so
    is a name that is neither of a known kind nor in `env_allowed`."""

    @field_validator("env", mode="before")
    @classmethod
    def _holds_no_secret(cls, env: Any, before: ValidationInfo) -> Any:
        # Runs before the types are checked: the message about a wrong type quotes the value.
        more = before.data.get("env_allowed", ())
        names = [str(name) for name in env] if isinstance(env, dict) else []
        for name in names:
            if not _VARIABLE.fullmatch(name):  # it may hold a value too
                raise ValueError(
                    "one of its names has characters other than letters, digits and _; correct it"
                )
            if is_secret_name(name):
                raise ValueError(
                    f"{name} reads like a secret, and a config is recorded in config.json and in "
                    f"Ray's logs; set it in the environment of the nodes instead"
                )
        for name in names:
            if not (name.startswith(_ENV_PREFIXES) or name in (*_ENV_NAMES, *more)):
                raise ValueError(
                    f"{name} is not of a kind that engines read ({_SHOWN_PREFIXES}); remove it, or "
                    "add its name to env_allowed if it holds no secret"
                )
        for name in sorted({*names} & _PINNED.keys()):
            if env[name] != _PINNED[name]:
                raise ValueError(
                    f"{name} may only be {_PINNED[name]!r}: an engine asks no network and runs no "
                    "code of others; remove it"
                )
        return env

    @field_validator("engine_arguments", mode="before")
    @classmethod
    def _fit_any_vllm(cls, arguments: Any) -> Any:
        check_arguments(arguments, cls.model_fields)
        return arguments

    @property
    def ranks(self) -> int:
        """Devices of one engine."""
        one = self.tensor_parallel_size * self.pipeline_parallel_size
        return one * times_devices(self.engine_arguments)

    @property
    def sequences(self) -> int:
        """Sequences that one engine works on at once."""
        # Each data-parallel rank has a scheduler of its own, and max_num_seqs is one scheduler's.
        return self.max_num_seqs * data_parallel_size(self.engine_arguments)

    @model_validator(mode="after")
    def _a_step_holds_the_batch(self) -> VLLMEngineConfig:
        if self.max_num_batched_tokens < self.max_num_seqs:
            raise ValueError(
                f"max_num_batched_tokens is {self.max_num_batched_tokens}, less than max_num_seqs, "
                f"{self.max_num_seqs}, and every sequence of a batch takes one; raise the first "
                "or lower the second"
            )
        return self


class ScriptedEngineConfig(Section):
    """The project's own scripted engine, for rehearsals of real jobs and for tests: no model,
    planted accuracies.
    """

    engine: Literal["scripted"]
    """A script answers; no model is loaded."""
    tokenizer: PathText
    """Directory of a tokenizer and a chat template."""
    license: License | None = None
    """License, as of a vLLM engine. If not set, what the tokenizer's own README.md says."""
    accuracy: dict[str, Fraction] = Field(default_factory=dict)
    """Share of problems that are answered correctly, by strategy; 0.5 for a strategy that is not
    named."""
    max_model_len: int = Field(4096, ge=16)
    """Most tokens of a prompt and its answer together. A problem that may need more is rejected
    before an engine starts."""
    system: Literal["message", "fold"] = "message"
    """Place of the system text, as of a vLLM engine."""
    template_arguments: dict[str, JsonValue] = Field(default_factory=dict)
    """Further variables of the chat template, as of a vLLM engine."""
    thinking_tokens: int | None = Field(None, ge=1)
    """Most tokens of a thought, as of a vLLM engine."""
    thinking: Markers = ()
    """The markers of a thought, as of a vLLM engine."""
    max_num_seqs: int = Field(256, ge=1)
    """Sequences in one batch, as of vLLM: an engine is given about twice as many requests."""
    replicas: int = Field(1, ge=1)
    """Number of engines of this model."""

    @property
    def sequences(self) -> int:
        """Sequences that one engine works on at once."""
        return self.max_num_seqs


EngineConfig = Annotated[VLLMEngineConfig | ScriptedEngineConfig, Discriminator("engine")]
