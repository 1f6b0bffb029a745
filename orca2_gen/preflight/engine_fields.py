"""Do an engine's further arguments exist in the installed vLLM, with these types?

Where no vLLM is installed, as on a host that only submits, nothing is asked: the run asks again
where its driver starts.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Mapping
from typing import Any

from orca2_gen.config.secrecy import shown
from orca2_gen.config.vllm_fields import Fields, installed_fields
from orca2_gen.mistakes.spelling import nearest

_TYPES: Mapping[str, tuple[tuple[type, ...], str]] = {
    "bool": ((bool,), "true or false"),
    "int": ((int,), "a whole number"),
    "float": ((int, float), "a number"),
    "str": ((str,), "text in quotes"),
    "list": ((list, tuple), "a list"),
    "set": ((list, tuple), "a list"),
    "dict": ((dict,), "a table"),
}
"""Name of a type in vLLM's source -> the types of TOML that it takes, in words."""


_PACKAGES: Mapping[str, str] = {
    "fastsafetensors": "fastsafetensors",
    "instanttensor": "instanttensor",
    "runai_streamer": "runai_model_streamer",
    "runai_streamer_sharded": "runai_model_streamer",
    "suffix": "arctic_inference",
}
"""Value of an argument -> the package that vLLM imports for it and does not install."""


def check_fields(section: str, arguments: Mapping[str, Any]) -> None:
    """Checks the names and types of an engine's further arguments.

    Args:
        section: the engine's section in the config.
        arguments: its engine_arguments.

    Raises:
        ValueError: the installed vLLM has no such argument; one line with the nearest name.
    """
    fields = installed_fields() if arguments else None
    if fields is None:
        return
    for name, value in arguments.items():
        key = f"{section}.engine_arguments.{name}"
        if name not in fields.arguments:
            raise ValueError(f"{key}: {_unknown('AsyncEngineArgs', name, fields.arguments)}")
        expected = _expected(fields.arguments[name], value)
        if expected:
            raise ValueError(f"{key} is {shown(value)}: expected {expected}")
        _check_table(key, name, fields.arguments[name], value, fields)
    _check_packages(f"{section}.engine_arguments", arguments)


def _check_packages(key: str, arguments: Mapping[str, Any]) -> None:
    """Checks that what vLLM imports for a value is installed too."""
    speculation = arguments.get("speculative_config")
    method = speculation.get("method") if isinstance(speculation, dict) else None
    values = {"load_format": arguments.get("load_format"), "speculative_config.method": method}
    for name, value in values.items():
        package = _PACKAGES.get(str(value))
        if package is not None and importlib.util.find_spec(package) is None:
            raise ValueError(
                f"{key}.{name} is {value!r}, for which vLLM needs the package {package}; install "
                "it on every node, or give another value"
            )


def _check_table(key: str, name: str, annotation: ast.expr, value: Any, fields: Fields) -> None:
    """Checks the names in the table of a config class; tables in tables too."""
    config = _config_class(name, annotation, fields)
    if config is None or not isinstance(value, dict):
        return
    known = fields.configs[config]
    for inner, below in value.items():
        if inner not in known:
            raise ValueError(f"{key}.{inner}: {_unknown(config, inner, known)}")
        _check_table(f"{key}.{inner}", inner, known[inner], below, fields)


def _unknown(owner: str, name: str, known: Mapping[str, ast.expr]) -> str:
    near = nearest(name.replace("-", "_"), known)
    hint = f"did you mean {near!r}?" if near else "remove it or check its spelling"
    if name.startswith("rope_"):  # of vLLM's arguments once
        hint = f"set it in hf_overrides, e.g. {{ {name} = ... }}"
    return f"the installed vLLM's {owner} has no such key; {hint}"


def _config_class(name: str, annotation: ast.expr, fields: Fields) -> str | None:
    """The class that a table under this name becomes; None if it stays a table."""
    named = [node.id for node in ast.walk(annotation) if isinstance(node, ast.Name)]
    if "dict" in named:  # of anything, but vLLM makes a SpeculativeConfig of speculative_config
        named = ["".join(word.capitalize() for word in name.split("_"))]
    return next((each for each in named if each in fields.configs), None)


def _expected(annotation: ast.expr, value: Any) -> str:
    """The types that an annotation names, in words; empty if the value may have one of them."""
    words = []
    for part in _parts(annotation):
        name = part.value if isinstance(part, ast.Subscript) else part
        if isinstance(name, ast.Constant) and name.value is None:
            continue
        known = _TYPES.get(name.id) if isinstance(name, ast.Name) else None
        if known is None and isinstance(name, ast.Name) and name.id.endswith("Config"):
            known = _TYPES["dict"]
        if known is None:
            return ""  # an enumeration or another name: vLLM may know better
        types, word = known
        if isinstance(value, types) and (bool in types or not isinstance(value, bool)):
            return ""
        words.append(word)
    return " or ".join(dict.fromkeys(words))


def _parts(annotation: ast.expr) -> list[ast.expr]:
    """The types of `a | b | c`."""
    if isinstance(annotation, ast.BinOp):
        return [*_parts(annotation.left), *_parts(annotation.right)]
    return [annotation]
