"""The page in a browser: Debian's Chromium, and axe-core, which finds what hinders people."""

from __future__ import annotations

import dataclasses
import html
import importlib.metadata
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from orca2_gen.dataset.facts import CopiesFacts
from orca2_gen.evaluations.accuracies import Accuracy, Difference
from orca2_gen.report.ablations import Ablations, Arm
from orca2_gen.report.page import Page, page_of, rendered
from tests.conftest import FinishedRun

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or ""
SCREENS = {
    "desktop": ["--window-size=1280,900"],
    "dark": ["--window-size=1280,900", "--blink-settings=preferredColorScheme=0"],
    "phone": ["--window-size=390,844"],
}
FILLED: dict[Any, Any] = {"str": "student", "int": 20, "float": 0.5, "bool": True}
"""Type of a field -> a value."""
pytestmark = pytest.mark.skipif(not BROWSER, reason="no chromium on this machine")


@pytest.fixture(scope="module")
def page(undisturbed: FinishedRun) -> Page:
    """A page with every section, and more groups than are shown at once."""
    page = page_of(undisturbed.run_dir)
    accuracy = Accuracy(**{each.name: FILLED[each.type] for each in dataclasses.fields(Accuracy)})
    fields = dataclasses.fields(Difference)
    difference = Difference(**{each.name: FILLED[each.type] for each in fields})
    many = (dataclasses.replace(page.selections[0], group=f"task_{n}") for n in range(120))
    arm = Arm(
        accuracy=0.5,
        interval=(0.4, 0.6),
        seeds=(0.5, 0.5),
        tokens=20.0,
        rows=20,
        rows_per_task={"task_0": 20},
        per_task={"task_0": 0.5},
    )
    arms = {"ours": arm, "no_erasure": arm}
    assert page.facts is not None
    facts = dataclasses.replace(
        page.facts, copies=CopiesFacts(duplicates=True, contamination=True, near="remove")
    )
    return dataclasses.replace(
        page,
        selections=tuple(many),
        accuracies=(accuracy,),
        differences=(difference,),
        ablations=Ablations(arms=arms, arms_cut=arms, rows_per_task_cut={"task_0": 20}),
        facts=facts,
    )


def opened(folder: Path, text: str, screen: str) -> tuple[str, str]:
    """The page after its scripts ran, and what the browser said meanwhile."""
    file = folder / "page.html"
    file.write_text(text)
    ended = subprocess.run(
        [
            *(BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"),
            *(f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=20000"),
            *SCREENS[screen],
            *("--dump-dom", file.as_uri()),
        ],
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    return ended.stdout, ended.stderr


def violations(folder: Path, text: str, screen: str = "desktop") -> set[str]:
    """The rules of axe-core that a page breaks."""
    [file] = [
        each
        for each in importlib.metadata.files("axe-core-python") or []
        if each.name == "axe.min.js"
    ]
    axe = Path(str(file.locate())).read_text(encoding="utf-8").replace("</script", "<\\/script")
    told = (
        "addEventListener('load', () => axe.run(document).then(found => {"
        "const told = document.createElement('pre'); told.id = 'axe';"
        "told.textContent = JSON.stringify(found.violations.map(each => each.id));"
        "document.body.append(told)}))"
    )
    scripts = f"<script>{axe}</script><script>{told}</script>"
    dom, said = opened(folder, text.replace("</body>", f"{scripts}</body>"), screen)
    found = re.search(r'<pre id="axe">(.*?)</pre>', dom, re.DOTALL)
    assert found is not None, said
    return set(json.loads(html.unescape(found[1])))


def test_a_browser_draws_it_without_a_word_of_complaint(tmp_path: Path, page: Page) -> None:
    dom, said = opened(tmp_path, rendered(page), "desktop")
    assert "CONSOLE" not in said, said
    # The script ran: of 120 rows 50 are shown, and headers sort.
    assert dom.count('<tr hidden=""') == 70 and 'class="sort"' in dom
    assert "page 1 of 3" in dom


@pytest.mark.parametrize("screen", SCREENS)
def test_nothing_on_it_hinders_anybody(tmp_path: Path, page: Page, screen: str) -> None:
    assert violations(tmp_path, rendered(page, page), screen) == set()


def test_what_would_hinder_somebody_is_found(tmp_path: Path, page: Page) -> None:
    text = rendered(page).replace("<main>", '<main><img src="data:,"><p style="color:#ddd">pale')
    assert {"image-alt", "color-contrast"} <= violations(tmp_path, text)
