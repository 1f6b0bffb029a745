from __future__ import annotations

from pathlib import Path

from orca2_gen.preview.config import preview_directory


def test_every_preview_has_a_directory_of_its_own(tmp_path: Path) -> None:
    """Settings are what changes between two previews, and a run directory holds one setting."""
    run_dir = str(tmp_path / "run")
    made = []
    for _ in range(3):
        place = preview_directory(run_dir)
        place.mkdir()
        made.append(place.name)
    assert made == ["run-preview", "run-preview-2", "run-preview-3"]
