"""JSON files of a run directory, read as what they should hold and not as whatever they hold.

`json.loads` takes the last of two equal keys, reads NaN, and ends in a RecursionError on brackets
a thousand deep; here each of them is a damaged file, named.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from orca2_gen.run_directory.regular_files import DamagedFile, UnusableFile, read_regular

MOST_BYTES = 64 << 20
"""Most bytes of a JSON file: a manifest of 300,000 shards has half as many."""
_DEEPEST = 64

T = TypeVar("T")

_EXPECTED = {
    "bool_type": "true or false",
    "dataclass_type": "an object",
    "dict_type": "an object",
    "float_type": "a number",
    "int_type": "a whole number",
    "list_type": "a list",
    "string_type": "a text",
    "tuple_type": "a list",
}
"""Kind of a ValidationError -> what was expected."""


def read_json(path: Path) -> Any:
    """The value in a JSON file.

    Raises:
        FileNotFoundError: nothing is there.
        DamagedFile: it is not a regular file of a sensible size, or not JSON; see above.
    """
    try:
        text = read_regular(path, MOST_BYTES).decode("utf-8")
        value = json.loads(text, object_pairs_hook=_object, parse_constant=_no_constant)
        _check_values(value)
    except UnusableFile as error:
        raise DamagedFile(str(error)) from error
    except RecursionError:
        raise DamagedFile(f"{path} is not JSON of ours: {_TOO_DEEP}") from None
    except ValueError as error:
        raise DamagedFile(f"{path} is not JSON of ours: {error}") from error
    return value


def parsed(path: Path, value: Any, adapter: TypeAdapter[T]) -> T:
    """The value that `read_json` read from this path, as the adapter's type.

    Raises:
        DamagedFile: it has another shape; the message says where.
    """
    try:
        # Only in JSON does the strict mode take a list for a tuple, an object for a record.
        return adapter.validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        raise DamagedFile(f"{path}{fault_of(error)}") from error


def fault_of(error: ValidationError) -> str:
    """The first fault of a validation, in plain words that continue a line after a path."""
    first = error.errors(include_url=False)[0]
    where = ".".join(map(str, first["loc"])) or "the whole"
    if first["type"] == "missing":
        return f" lacks {where}"
    found = json.dumps(first["input"], default=str)
    expected = _EXPECTED.get(first["type"])
    wish = f"expected {expected}" if expected else first["msg"].removeprefix("Value error, ")
    return f": {where} is {found if len(found) <= 60 else found[:57] + '...'}; {wish}"


_TOO_DEEP = f"its values are nested more than {_DEEPEST} deep"


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice[:60]!r} occurs twice in one object")
    return found


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def _check_values(value: Any) -> None:
    level = [value]
    for _ in range(_DEEPEST):
        inner: list[Any] = []
        for each in level:
            if isinstance(each, dict):
                inner += each.keys()
                inner += each.values()
            elif isinstance(each, list):
                inner += each
            elif isinstance(each, str) and not each.isascii():
                each.encode()  # raises for half a character, which no terminal shows
            elif isinstance(each, float) and not math.isfinite(each):
                raise ValueError("a number is too large")
        level = inner
        if not level:
            return
    raise ValueError(_TOO_DEEP)
