"""The environment that keeps every library from calling home, for the driver and for every Ray
process.
"""

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
    # Not telemetry, but read at the same moment: a tokenizer that was used before a fork would warn
    # on every fork.
    "TOKENIZERS_PARALLELISM": "false",
}


def go_offline() -> None:
    """Sets the variables in this process; children inherit them, Ray workers get them by
    runtime_env.
    """
    os.environ.update(OFFLINE_ENVIRONMENT)
    if not os.environ.get("RAY_ADDRESS"):
        # Ray replaces a loopback address by one that other hosts reach, except where this variable,
        # named for two other systems, says that there are no other hosts. Read on `import ray`.
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
