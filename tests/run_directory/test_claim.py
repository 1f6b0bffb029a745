from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from orca2_gen.run_directory.claim import MARK, claim_run_directory, is_run

ROOT = Path(__file__).parents[2]
OLDER_RUN = ROOT / "tests" / "older_run" / "RUN"
STUDENT = ROOT / "orca2_gen" / "microworld" / "student"


def tree(folder: Path) -> dict[str, bytes | str | None]:
    """Every path below a folder with its bytes, or where it leads."""
    return {
        str(path.relative_to(folder)): os.readlink(path)
        if path.is_symlink()
        else path.read_bytes()
        if path.is_file()
        else None
        for path in sorted(folder.rglob("*"))
    }


@pytest.mark.parametrize("place", ["new", "a/b/c/new", "empty", "\u00e9 \u6f22"])
def test_an_empty_or_absent_directory_is_claimed_and_can_be_claimed_again(
    tmp_path: Path, place: str
) -> None:
    (tmp_path / "empty").mkdir()
    for _ in range(2):
        assert claim_run_directory(tmp_path / place) == tmp_path / place
        assert os.listdir(tmp_path / place) == [MARK]
    assert is_run(tmp_path / place)


def test_a_link_to_a_directory_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert claim_run_directory(tmp_path / "link") == tmp_path / "real"


def test_what_a_new_file_system_and_a_killed_older_driver_leave_is_nobodys(tmp_path: Path) -> None:
    (tmp_path / "lost+found").mkdir()
    (tmp_path / "driver.lock").touch()
    (tmp_path / ".driver.lock.tmp-host-1-ab").touch()
    claim_run_directory(tmp_path)
    assert is_run(tmp_path)


@pytest.mark.parametrize("lost", ["config.json", "ledger.jsonl", "dataset"])
def test_a_run_of_an_older_version_is_ours_also_when_a_file_is_lost(
    tmp_path: Path, lost: str
) -> None:
    run_dir = Path(shutil.copytree(OLDER_RUN, tmp_path / "run"))
    (shutil.rmtree if lost == "dataset" else os.unlink)(run_dir / lost)
    before = tree(run_dir)
    claim_run_directory(run_dir)
    assert {name: body for name, body in tree(run_dir).items() if name != MARK} == before


def saved_dataset(folder: Path) -> None:
    import datasets

    datasets.Dataset.from_dict({"text": ["a", "b"]}).save_to_disk(folder)


def put(folder: Path, name: str, body: str = "x") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(body)


def bound_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as found:
        found.bind(str(path))


SOMEBODYS: dict[str, Callable[[Path], object]] = {
    "a datasets directory": saved_dataset,
    "a directory that holds one": lambda place: saved_dataset(place / "dataset"),
    "a model": lambda place: shutil.copytree(STUDENT, place),
    "a note": lambda place: put(place, "note.txt"),
    "a hidden file": lambda place: put(place, ".git"),
    "an empty folder in it": lambda place: (place / "dataset").mkdir(parents=True),
    "a config.json of nobody": lambda place: put(place, "config.json", "{}"),
    "a config.json of a model": lambda place: put(
        place, "config.json", '{"stages": [1, 2], "model_type": "x"}'
    ),
    "a ledger.jsonl of nobody": lambda place: put(place, "ledger.jsonl", '{"stage": 1}\n'),
    "a deeply nested config.json": lambda place: put(place, "config.json", "[" * 100_000),
    "a mark that is a directory": lambda place: (place / MARK).mkdir(parents=True),
    "a mark that is a link": lambda place: (
        place.mkdir(),
        (place / MARK).symlink_to("/etc/passwd"),
    ),
    "a FIFO in place of config.json": lambda place: (
        place.mkdir(),
        os.mkfifo(place / "config.json"),
    ),
    "a file": Path.touch,
    "a FIFO": os.mkfifo,
    "a socket": bound_socket,
    "a dangling link": lambda place: place.symlink_to(place.with_name("nowhere")),
    "a link to itself": lambda place: place.symlink_to(place),
    "a link to a file": lambda place: (
        place.with_name("file").touch(),
        place.symlink_to(place.with_name("file")),
    ),
}


@pytest.mark.parametrize("whose", SOMEBODYS)
def test_what_is_somebodys_is_refused_in_one_line_and_stays_as_it_was(
    tmp_path: Path, whose: str
) -> None:
    place = tmp_path / "run"
    SOMEBODYS[whose](place)
    before = tree(tmp_path)
    with pytest.raises(ValueError) as refused:
        claim_run_directory(place if place.is_dir() else place / "below")
    assert "run_dir" in str(refused.value)
    with pytest.raises(ValueError) as refused:
        claim_run_directory(place)
    assert "\n" not in str(refused.value) and "run_dir" in str(refused.value)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("folder", ["dataset", "student", "scores", "x", "x/y"])
@pytest.mark.parametrize("is_older", [False, True])
def test_a_directory_inside_a_run_is_refused(tmp_path: Path, folder: str, is_older: bool) -> None:
    run_dir = tmp_path / "run"
    if is_older:
        shutil.copytree(OLDER_RUN, run_dir)
    else:
        claim_run_directory(run_dir)
    before = tree(tmp_path)
    with pytest.raises(ValueError, match="lies inside the run"):
        claim_run_directory(run_dir / folder)
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    "path", ["/", "~", "/proc", "/proc/nobody/run", "/etc/passwd/run", "x" * 300, "a/" * 3000]
)
def test_no_run_begins_where_nothing_can_be_written_or_everything_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))  # empty, and a home all the same
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="run_dir") as refused:
        claim_run_directory(Path(path).expanduser())
    assert len(str(refused.value)) < 600
    assert os.listdir(tmp_path) == []


def test_a_path_with_a_nul_character_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"run_dir .* holds a NUL"):
        claim_run_directory(tmp_path / "a\0b")


def test_a_file_system_that_is_read_only_is_refused(tmp_path: Path) -> None:
    script = (
        'mount -t tmpfs -o ro tmpfs "$0" && '
        'exec "$1" -c "import sys; from pathlib import Path; '
        "from orca2_gen.run_directory.claim import claim_run_directory; "
        'claim_run_directory(Path(sys.argv[1]))" "$0"'
    )
    ended = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script, str(tmp_path), sys.executable],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    if "ValueError" not in ended.stderr:
        pytest.skip(f"no mount namespaces here: {ended.stderr.strip()[:200]}")
    assert "cannot be written: Read-only file system" in ended.stderr


def test_drivers_that_claim_at_once_all_get_the_directory(tmp_path: Path) -> None:
    for turn in range(20):
        run_dir = tmp_path / str(turn) / "run"
        failed: list[str] = []
        start = threading.Barrier(4)

        def claim(
            run_dir: Path = run_dir,
            failed: list[str] = failed,
            start: threading.Barrier = start,
        ) -> None:
            start.wait()
            try:
                claim_run_directory(run_dir)
                (run_dir / f"{threading.get_ident()}.a1-0.arrow").touch()
            except ValueError as error:
                failed.append(str(error))

        drivers = [threading.Thread(target=claim) for _ in range(4)]
        for driver in drivers:
            driver.start()
        for driver in drivers:
            driver.join()
        assert failed == []
        assert json.loads((run_dir / MARK).read_bytes())["holds"] == "a run"
