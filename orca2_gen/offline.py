"""The environment that keeps every library offline, in the driver and in every Ray process."""

from __future__ import annotations

import os

OFFLINE_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_DO_NOT_TRACK": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    # Not telemetry, but read at the same time: a tokenizer used before a fork warns on every fork.
    "TOKENIZERS_PARALLELISM": "false",
}


def go_offline() -> None:
    """Sets the variables here; children inherit them, Ray workers get them by runtime_env."""
    os.environ.update(OFFLINE_ENVIRONMENT)
    if not os.environ.get("RAY_ADDRESS"):
        # Ray replaces a loopback address with one that other hosts reach, unless this variable,
        # named after two other systems, says that there are none. Read on `import ray`.
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
