"""vLLM's further arguments: which of them a config may set, and which determine rows.

A name that no table here holds is a new one of vLLM's. It is judged by its words, like the names of
nested tables, and determines rows until it is found not to.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

MOST_DEPTH, MOST_VALUES = 8, 10_000
"""Tables in tables, and values in all of them."""

_OURS = "the run sets it"
_PLACED = "the run places the ranks; set data_parallel_size or replicas"
_TEXT = "text and tokens are turned into each other by the files of the engine's own model"
RUNS_CODE = "it runs code that is no part of vLLM"
_FILES = "it names files that no digest of the run covers"
_OTHERS = "it connects the engine with other processes"
_SERVER = "it is for a server or for models that do not generate text"
_QUEUE = "vLLM would refuse requests that the run lets wait"

REFUSED: Mapping[str, str] = {
    "seed": "each request has a seed of its own; set run_seed",
    "enable_log_requests": "prompts are the user's data and are never logged",
    "disable_log_stats": _OURS,
    "aggregate_engine_logging": _OURS,
    "distributed_executor_backend": _PLACED,
    "data_parallel_rank": _PLACED,
    "data_parallel_start_rank": _PLACED,
    "data_parallel_size_local": _PLACED,
    "data_parallel_address": _PLACED,
    "data_parallel_rpc_port": _PLACED,
    "data_parallel_hybrid_lb": _PLACED,
    "data_parallel_external_lb": _PLACED,
    "data_parallel_multi_port_external_lb": _PLACED,
    "data_parallel_backend": _PLACED,
    "master_addr": _PLACED,
    "master_port": _PLACED,
    "nnodes": _PLACED,
    "node_rank": _PLACED,
    "device_ids": _PLACED,
    "enable_elastic_ep": _PLACED,
    "elastic_ep_max_dp_size": _PLACED,
    "tokenizer": _TEXT,
    "tokenizer_mode": _TEXT,
    "tokenizer_revision": _TEXT,
    "skip_tokenizer_init": _TEXT,
    "tokens_only": _TEXT,
    "trust_remote_code": RUNS_CODE,
    "worker_cls": RUNS_CODE,
    "worker_extension_cls": RUNS_CODE,
    "scheduler_cls": RUNS_CODE,
    "logits_processors": RUNS_CODE,
    "io_processor_plugin": RUNS_CODE,
    "reasoning_parser_plugin": RUNS_CODE,
    "model_class_overrides": RUNS_CODE,
    "additional_config": "only plug-ins read it, which run code that is no part of vLLM",
    "ec_manager_config": RUNS_CODE,
    "log_config_file": "logging is set up by classes that it names; set log_level",
    "logging_config": "logging is set up by classes that it names; set log_level",
    "profiler_config": "a profiler runs beside the engine and writes files",
    "ray_workers_use_nsight": "a profiler runs beside the engine and writes files",
    "hf_token": "it is a secret, and models are never downloaded",
    "watermark_config": "its key is a secret, and answers are trained on",
    "model_weights": f"{_FILES}; set model",
    "hf_config_path": f"{_FILES}; set hf_overrides",
    "config_format": _FILES,
    "generation_config": f"{_FILES}; set override_generation_config",
    "default_mm_loras": _FILES,
    "mm_encoder_fp8_scale_path": _FILES,
    "mm_encoder_fp8_scale_save_path": "the engine writes no files",
    "allowed_local_media_path": "prompts hold text only",
    "allowed_media_domains": "prompts hold text only",
    "download_dir": "models are never downloaded",
    "revision": "models are local directories",
    "code_revision": "models are local directories",
    "spec_method": "set speculative_config",
    "spec_model": "set speculative_config",
    "spec_tokens": "set speculative_config",
    "kv_transfer_config": f"{_OTHERS}; set kv_offloading_size",
    "kv_events_config": _OTHERS,
    "ec_transfer_config": _OTHERS,
    "kv_offloading_backend": f"{_OTHERS}; kv_offloading_size alone takes vLLM's own",
    "weight_transfer_config": _OTHERS,
    "served_model_name": _SERVER,
    "runner": _SERVER,
    "convert": _SERVER,
    "pooler_config": _SERVER,
    "enable_prompt_embeds": _SERVER,
    "max_num_queued_reqs": _QUEUE,
    "max_num_queued_tokens": _QUEUE,
}
"""Argument of vLLM that a config may not set -> the reason."""

DEVICES = ("data_parallel_size", "prefill_context_parallel_size")
"""Arguments that multiply the devices of an engine."""

_PLACES = "where the same sums are made, as with tensor_parallel_size and replicas"
_MEMORY = "where the same weights or keys and values lie meanwhile"
_ORDER = "which request waits for which"
_READING = "how the same safetensors are read"
_WATCHED = "what is counted and shown"
SPEED: Mapping[str, str] = {
    "data_parallel_size": _PLACES,
    "prefill_context_parallel_size": _PLACES,
    "enable_expert_parallel": _PLACES,
    "expert_placement_strategy": _PLACES,
    "enable_eplb": _PLACES,
    "numa_bind": _PLACES,
    "numa_bind_nodes": _PLACES,
    "numa_bind_cpus": _PLACES,
    "distributed_timeout_seconds": "how long a rank is waited for",
    "cpu_distributed_timeout_seconds": "how long a rank is waited for",
    "cpu_offload_gb": _MEMORY,
    "cpu_offload_params": _MEMORY,
    "offload_backend": _MEMORY,
    "offload_group_size": _MEMORY,
    "offload_num_in_group": _MEMORY,
    "offload_prefetch_step": _MEMORY,
    "offload_params": _MEMORY,
    "kv_offloading_size": _MEMORY,
    "num_gpu_blocks_override": _MEMORY,
    "async_scheduling": _ORDER,
    "stream_interval": _ORDER,
    "watermark": _ORDER,
    "scheduler_reserve_full_isl": _ORDER,
    "max_parallel_loading_workers": _READING,
    "safetensors_prefetch_num_threads": _READING,
    "safetensors_prefetch_block_size": _READING,
    "use_tqdm_on_load": _WATCHED,
    "log_level": _WATCHED,
    "kv_cache_metrics": _WATCHED,
    "kv_cache_metrics_sample": _WATCHED,
    "cudagraph_metrics": _WATCHED,
    "enable_mfu_metrics": _WATCHED,
    "enable_logging_iteration_details": _WATCHED,
    "otlp_traces_endpoint": _WATCHED,
    "collect_detailed_traces": _WATCHED,
}
"""Argument that determines no row -> what it decides instead. All others are part of stage keys:
compilation_config too, since it chooses kernels, and their sums differ in the last digit.
"""

_NO_MODELS = ("ngram", "[ngram]", "ngram_gpu", "suffix", "extract_hidden_states")
"""Values of speculative_config.model that name a method."""


def row_arguments(
    arguments: Mapping[str, Any], digest_of: Mapping[str, str]
) -> dict[str, Any] | None:
    """The arguments that determine rows, a model's directory by its digest; None if there are none.

    Args:
        arguments: the config's, checked.
        digest_of: directory -> digest of its weights.
    """
    models = dict(argument_models(arguments))

    def by_digest(key: str, value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: by_digest(f"{key}.{name}", inner) for name, inner in value.items()}
        if isinstance(value, list | tuple):
            return [by_digest(f"{key}.{index}", inner) for index, inner in enumerate(value)]
        return {"model": digest_of[value]} if key in models else value

    found = {name: by_digest(name, value) for name, value in arguments.items() if name not in SPEED}
    return found or None


def argument_models(arguments: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(key, directory) of every model that the arguments name."""
    for key, holder, name in path_places(arguments):
        yield key, holder[name]


def path_places(arguments: Any) -> Iterator[tuple[str, Any, Any]]:
    """(key, table or list, name or index in it) of every text that is a path."""
    for key, holder, name in places(arguments):
        value = holder[name]
        if not isinstance(value, str) or key == "otlp_traces_endpoint":
            continue
        is_model = key == "speculative_config.model" and value not in (*_NO_MODELS, "")
        if is_model or "/" in value or value in ("~", ".", ".."):
            yield key, holder, name


def times_devices(arguments: Mapping[str, Any]) -> int:
    """The number that tensor_parallel_size x pipeline_parallel_size is multiplied with."""
    return math.prod(arguments.get(name, 1) for name in DEVICES)


def data_parallel_size(arguments: Mapping[str, Any]) -> int:
    """The number of copies of the layers in one engine, each with a batch of its own."""
    return int(arguments.get("data_parallel_size", 1))


def places(arguments: Any) -> Iterator[tuple[str, Any, Any]]:
    """(key, holder, name or index) of everything in nested tables and lists, bounded."""
    open_: list[tuple[str, Any, int]] = [("", arguments, 0)]
    count = 0
    while open_:
        prefix, holder, depth = open_.pop()
        names: Any = ()
        if isinstance(holder, Mapping):
            names = list(holder)
        elif isinstance(holder, list | tuple):
            names = range(len(holder))
        if names and depth >= MOST_DEPTH:
            raise ValueError(f"{cut(prefix)} is nested in more than {MOST_DEPTH} tables")
        for name in names:
            count += 1
            if count > MOST_VALUES:
                raise ValueError(f"there are more than {MOST_VALUES} values in it")
            key = f"{prefix}.{name}" if prefix else str(name)
            yield key, holder, name
            open_.append((key, holder[name], depth + 1))


def cut(key: str) -> str:
    """The key as a message shows it."""
    text = key if key.isprintable() else ascii(key)
    return text if len(text) <= 100 else f"{text[:97]}..."
