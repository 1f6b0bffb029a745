"""Pinned environments of foreign trainers, each made once under a directory of one's own.

An environment holds exactly the packages of `pins/NAME.txt`, from the package index, without what a
resolver would add. Only torch is this project's own: a trainer's pins would bring its CUDA build,
which is gigabytes and needs a GPU.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

PINS = Path(__file__).parent / "pins"
OWN = "own"
"""The name of this project's own environment."""
MINUTES = 30


class NotInstalled(Exception):
    """The package index does not give what an environment needs."""


def python_of(environment: str, root: Path) -> Path:
    """The interpreter of an environment, which is made under `root` if it is not there.

    Raises:
        NotInstalled: its packages cannot be installed.
    """
    if environment == OWN:
        return Path(sys.executable)
    pins = PINS / f"{environment}.txt"
    folder = root / "environments" / environment
    python, made = folder / "bin" / "python", folder / "made-of.txt"
    digest = hashlib.sha256(pins.read_bytes()).hexdigest()
    if made.is_file() and made.read_text() == digest:
        return python
    _run([sys.executable, "-m", "venv", "--clear", "--without-pip", str(folder)])
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
    _run([*pip, "--no-deps", "--requirement", str(pins)])
    _link_torch(folder)
    made.write_text(digest)
    return python


def _link_torch(folder: Path) -> None:
    """Lets an environment import this project's torch and nothing else of it."""
    links = folder / "torch"
    links.mkdir()
    installed = distribution("torch")
    own = Path(str(installed.locate_file("")))
    tops = {file.parts[0] for file in installed.files or ()}
    for name in sorted(tops):
        if name.startswith("torch") or name == "functorch":
            (links / name).symlink_to(own / name)
    [site] = folder.glob("lib/python*/site-packages")
    (site / "torch.pth").write_text(f"{links}\n")
    # The index holds torchaudio's CUDA build. Without its libraries it is plain Python, which is
    # enough to be imported; rows of text never call it.
    for library in site.glob("torchaudio/lib/*.so"):
        library.unlink()


def _run(command: list[str]) -> None:
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60 * MINUTES)
    except subprocess.TimeoutExpired:
        raise NotInstalled(f"not done within {MINUTES} minutes") from None
    if ended.returncode:
        said = [line for line in ended.stderr.splitlines() if "ERROR" in line or "error" in line]
        raise NotInstalled((said or ended.stderr.splitlines() or ["no reason was given"])[-1])
