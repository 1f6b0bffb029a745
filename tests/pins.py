"""The files of pins, as the tests read them."""

from __future__ import annotations

from pathlib import Path

from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]


def pins(name: str) -> dict[str, Version]:
    """The versions of a file of pins, by the packages' normalised names."""
    lines = (ROOT / name).read_text(encoding="ascii").splitlines()
    pairs = [line.split("==") for line in lines if not line.startswith("#")]
    found = {canonicalize_name(package): Version(version) for package, version in pairs}
    assert len(found) == len(pairs)
    return found
