"""What an engine's further arguments may hold, whatever vLLM is installed.

A config may come from a stranger. So nothing in it names code to run, a file that no digest covers
or an address; preflight/engine_fields.py asks the installed vLLM about the rest.
"""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Collection, Mapping
from typing import Any
from urllib.parse import urlsplit

from orca2_gen.config.engine_arguments import DEVICES, REFUSED, RUNS_CODE, cut, places
from orca2_gen.config.secrecy import is_secret_name, secret_in, shown

MOST_CHARACTERS = 10_000
"""Characters of one value."""

LOAD_FORMATS = (
    *("safetensors", "fastsafetensors", "instanttensor", "mistral", "runai_streamer"),
    *("sharded_state", "runai_streamer_sharded"),
)
"""Values of load_format that read nothing but the safetensors of the model directory: `auto`, `hf`,
`pt` and `npcache` read pickles, `tensorizer`, `modelexpress` and `ipc_cache` what another process
made, and `dummy` no weights at all."""

_NAMES_CODE = re.compile(
    r"""
      (^|_)(cls|class|qualname|callable|hook)$ | plugin | trust_remote_code | auto_map
    | module(_path|_name|$) | logits?_processors?$ | (kv|ec)_connector | ^custom_pipelines$
    | ^inductor_(compile_config|passes)$
    | ^code_revision$ | pickle | (cache|dump|profiler|download|save)_(dir|path)$ | _file$
    """,
    re.VERBOSE,
)
_INTERNAL = re.compile(r"(target|draft)_(model|parallel)_config")
_OF_LAYERS = re.compile(
    r"ignore|exclude|_(ops|params)(\.|$)|layers?(\.|$|_)|modules(\.|$|_)|targets|not_convert"
)
"""Keys whose values are names of layers and operators, which look like places in Python code."""
_PYTHON_PLACE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*[.:][A-Za-z_]\w*")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/")


def check_arguments(arguments: Any, own: Collection[str]) -> None:
    """Checks the arguments by themselves, whatever vLLM is installed.

    Args:
        arguments: what the config says.
        own: keys of an engine's section.

    Raises:
        ValueError: one line that names the key and the remedy.
    """
    if not isinstance(arguments, dict):
        raise ValueError(f"expected a table of vLLM's arguments, found {shown(arguments)}")
    for name in map(str, arguments):
        if name.replace("-", "_") in own:
            raise ValueError(
                f"{name} is a key of the section itself; set it there, beside engine_arguments"
            )
    for key, holder, name in places(arguments):
        _check_name(key)
        _check_value(key, holder[name])
    _check_tables(arguments)
    for name in DEVICES:
        size = arguments.get(name, 1)
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ValueError(f"{name} is {shown(size)}: expected a whole number, at least 1")


_NO_SECRETS = ("pass_config", "num_experts_per_token")
"""Names of vLLM's that read like a secret."""


def _check_name(key: str) -> None:
    *above, name = key.replace("-", "_").casefold().split(".")
    reason = "" if above else REFUSED.get(name, "")
    if not reason and (_NAMES_CODE.search(name) or (above and name in _REFUSED_BELOW)):
        reason = RUNS_CODE
    if not reason and above and _INTERNAL.fullmatch(name):
        reason = "vLLM makes it itself"
    if not reason and is_secret_name(name) and name not in _NO_SECRETS:
        reason = "it reads like a secret, and a config is recorded in config.json"
    if reason:
        raise ValueError(f"{cut(key)} may not be set ({reason}); remove it")


_REFUSED_BELOW = {name for name, reason in REFUSED.items() if reason is RUNS_CODE}
_REFUSED_BELOW |= {"hf_token", "distributed_executor_backend"}  # the latter may name a class


def _check_value(key: str, value: Any) -> None:
    if key.rpartition(".")[2] == "load_format" and not isinstance(value, str):
        raise ValueError(f"{cut(key)} is {shown(value)}: expected text in quotes")
    if value is None or isinstance(value, bool | Mapping | list | tuple):
        return
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{cut(key)} is {value}: expected a finite number")
    if isinstance(value, int) and value.bit_length() > 63:
        raise ValueError(f"{cut(key)} has too many digits: expected at most 18")
    if not isinstance(value, int | float | str):
        raise ValueError(f"{cut(key)} is a date or time: expected text, a number or a table")
    if isinstance(value, str):
        _check_text(key, value)


def _check_text(key: str, value: str) -> None:
    name = cut(key)
    if len(value) > MOST_CHARACTERS:
        raise ValueError(f"{name} has {len(value)} characters: expected at most {MOST_CHARACTERS}")
    if found := secret_in(value):
        raise ValueError(f"{name} holds what reads like {found}; remove it")
    if _URL.match(value) or key.endswith("endpoint"):
        if key != "otlp_traces_endpoint" or not _is_loopback(value):
            raise ValueError(
                f"{name} is an address; an engine reads and sends nothing over a network, so "
                "remove it"
            )
    elif key == "load_format" or key.endswith(".load_format"):
        if value not in LOAD_FORMATS:
            raise ValueError(
                f"{name} is {shown(value)}: expected one that reads safetensors only, "
                f"{', '.join(LOAD_FORMATS)}; convert other weights with save_pretrained"
            )
    elif _PYTHON_PLACE.fullmatch(value) and not _OF_LAYERS.search(key):
        raise ValueError(f"{name} is {shown(value)}: the name of Python code, which may not be run")


def _check_tables(arguments: Mapping[str, Any]) -> None:
    """Checks what one value in a table means for another."""
    overrides = arguments.get("hf_overrides", {})
    if not isinstance(overrides, Mapping):
        raise ValueError(f"hf_overrides is {shown(overrides)}: expected a table")
    speculative = arguments.get("speculative_config", {})
    if not isinstance(speculative, Mapping):
        raise ValueError(f"speculative_config is {shown(speculative)}: expected a table")
    if speculative.get("method") == "custom_class":
        raise ValueError(f"speculative_config.method may not be 'custom_class': {RUNS_CODE}")


def _is_loopback(address: str) -> bool:
    try:
        host = urlsplit(address if "://" in address else f"//{address}").hostname or ""
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
