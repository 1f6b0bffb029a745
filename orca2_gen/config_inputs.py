"""Tasks and engines: what a config takes in from outside itself."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field

from orca2_gen.records import AnswerType

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]


class Section(BaseModel):
    """What every section shares: frozen, and a key that nobody reads is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class TaskConfig(Section):
    """One task: files of problems in a published format."""

    name: Name
    format: Literal[
        "jsonl",
        "parquet",
        "datasets",
        "gsm8k",
        "flan",
        "natural_instructions",
        "aqua",
        "agieval",
        "math",
        "bbh",
        "deepmind_mathematics",
        "drop",
        "race",
        "crass",
    ]
    path: str
    """A file, or a directory of files in the format, or one that `datasets.save_to_disk` wrote."""
    split: Name = "train"
    answer_type: AnswerType | None = None
    """None takes the format's own."""
    columns: dict[str, str | tuple[str, ...]] = {}
    """Of jsonl, parquet and datasets: what question, answer (or answer_index, from 0), choices, id,
    category and sub_category are called there, e.g. { question = "prompt", answer = "label" }. A
    dot leads into a column; several columns make one question, or the choices."""
    rows_per_task: int | None = Field(None, ge=1)
    """A seeded sample of so many rows; in a mixture (flan, natural_instructions) of each of its
    tasks. None reads them all."""
    rows_per_category: int | None = Field(None, ge=1)
    """The same of every category, from what rows_per_task leaves."""
    sample_seed: int = Field(0, ge=0)
    """Of these samples; its own, so that runs with other seeds work on the same problems."""


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
    env: dict[str, str] = {}
    """Further environment variables of the engine's process, e.g. VLLM_CPU_OMP_THREADS_BIND."""


class ScriptedEngineConfig(Section):
    """The project's own scripted engine: no model, planted accuracies; for rehearsals of real jobs
    and for tests.
    """

    engine: Literal["scripted"]
    tokenizer: str
    """A directory with a tokenizer and a chat template."""
    accuracy: dict[str, Fraction] = {}
    """Share of problems answered rightly, by strategy; what is not named is 0.5."""
    max_model_len: int = Field(4096, ge=16)
    max_num_seqs: int = Field(256, ge=1)
    replicas: int = Field(1, ge=1)


EngineConfig = Annotated[VLLMEngineConfig | ScriptedEngineConfig, Discriminator("engine")]
