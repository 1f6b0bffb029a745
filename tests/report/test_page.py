from __future__ import annotations

import dataclasses
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from orca2_gen.dataset.facts import CopiesFacts, HeldOutFacts
from orca2_gen.records import Selection
from orca2_gen.report.page import Page, RacePoint, RejectedRows, page_of, rendered
from orca2_gen.report.samples import Passage, SampleRow, Turn
from orca2_gen.run_directory.ledger import committed_rows, read_ledger
from tests.conftest import Call, FinishedRun

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>{{ 7 * 7 }}\"'&"


class Parsed(HTMLParser):
    """The tags of a page, and its text outside of scripts and styles."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(html)
        assert self._open == [], self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "input", "br"):
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open and self._open[-1] == tag, (tag, self._open)
        self._open.pop()

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self._open):
            self.text += data


@pytest.fixture(scope="module")
def page(undisturbed: FinishedRun) -> Page:
    return page_of(undisturbed.run_dir)


def test_a_page_shows_every_choice_with_its_numbers(undisturbed: FinishedRun, page: Page) -> None:
    text = Parsed(rendered(page)).text
    for choice in committed_rows(read_ledger(undisturbed.run_dir), "selections", Selection):
        [best] = [s for s in choice.summaries if s.strategy == choice.strategy]
        assert choice.group in text and f"{100 * best.mean:.1f} (chosen)" in text
    assert "rows in each" in text and "What was rejected, and why" in text


def test_rejections_are_counted_by_reason(undisturbed: FinishedRun, page: Page) -> None:
    ledger = read_ledger(undisturbed.run_dir)
    total = sum(receipt.counts["rejected"] for receipt in ledger.units.values())
    assert sum(each.num for each in page.rejections) == total > 0
    assert all(0 < len(each.samples) <= 3 for each in page.rejections)


def test_a_page_loads_nothing_and_links_only_to_itself(page: Page) -> None:
    parsed = Parsed(rendered(page, page))
    for tag, attributes in parsed.tags:
        assert tag not in ("link", "iframe", "object", "embed", "base", "form", "img")
        assert not {"src", "srcset", "action", "ping", "background"} & attributes.keys()
        assert (attributes.get("href") or "#").startswith("#")
    assert "@import" not in rendered(page) and "url(" not in rendered(page)
    ids = [attributes["id"] for _, attributes in parsed.tags if "id" in attributes]
    links = [a["href"] for _, a in parsed.tags if "href" in a]
    assert len(ids) == len(set(ids)) and {f"#{name}" for name in ids} >= set(links)


def hostile(page: Page) -> Page:
    """The page of a run whose every text is an attack."""
    summaries = tuple(
        dataclasses.replace(each, strategy=HOSTILE + str(number))
        for number, each in enumerate(page.selections[0].summaries)
    )
    selection = dataclasses.replace(
        page.selections[0], group=HOSTILE, reason=HOSTILE, summaries=summaries
    )
    turn = Turn(role=HOSTILE, saw=(Passage(text=HOSTILE, is_erased=True),), trains=HOSTILE)
    return dataclasses.replace(
        page,
        name=HOSTILE,
        strategies=tuple(each.strategy for each in summaries),
        selections=(selection,),
        rejections=(
            RejectedRows(stage=HOSTILE, reason=HOSTILE, num=1, samples=((HOSTILE, HOSTILE),)),
        ),
        samples=(
            SampleRow(
                name=HOSTILE, problem_id=HOSTILE, task=HOSTILE, strategy=HOSTILE, turns=(turn,)
            ),
        ),
    )


def test_what_a_row_says_stays_text(page: Page) -> None:
    html = rendered(hostile(page))
    parsed = Parsed(html)
    assert [tag for tag, _ in parsed.tags if tag in ("script", "img")] == ["script"]
    assert not any(name.startswith("on") for _, a in parsed.tags for name in a)
    assert "alert(1)" in parsed.text and "49" not in re.findall(r"\d+\"'&", parsed.text)


def test_the_same_run_gives_the_same_page(undisturbed: FinishedRun) -> None:
    first, second = (rendered(page_of(undisturbed.run_dir)) for _ in "12")
    assert first == second


def test_a_thousand_tasks_are_one_table_of_a_few_megabytes(page: Page) -> None:
    many = tuple(
        dataclasses.replace(page.selections[0], group=f"task_{number}") for number in range(1448)
    )
    html = rendered(dataclasses.replace(page, selections=many))
    assert html.count('<th scope="row">task_') == 1448 and len(html) < 8_000_000


SECTIONS = {
    "samples": "Rows, on both sides",
    "stages": "What it cost",
    "race": "The race",
    "facts": "What it was made of",
}


@pytest.mark.parametrize("missing", SECTIONS)
def test_a_page_of_a_run_that_is_not_done_leaves_out_what_is_not_there(
    page: Page, missing: str
) -> None:
    changes: dict[str, Any] = {missing: None if missing == "facts" else ()}
    text = Parsed(rendered(dataclasses.replace(page, **changes))).text
    assert {name for name, heading in SECTIONS.items() if heading not in text} == {missing}


def test_a_page_says_that_nothing_is_selected_or_rejected_yet(page: Page) -> None:
    text = Parsed(rendered(dataclasses.replace(page, selections=(), rejections=()))).text
    assert "No strategy is selected yet." in text and "Nothing." in text


def test_the_command_writes_a_page_and_says_where(orca2: Call, run_copy: Path) -> None:
    code, out, _ = orca2("report", run_copy)
    assert code == 0 and out.strip() == str(run_copy / "report.html")
    assert "<title>" in (run_copy / "report.html").read_text()
    code, _, _ = orca2("verify", run_copy)
    assert code == 0
    code, out, _ = orca2("report", run_copy, run_copy, "--out", run_copy.parent / "both.html")
    assert code == 0 and (run_copy.parent / "both.html").read_text().count("<h1") == 2
    code, _, err = orca2("report", run_copy.parent)
    assert code == 2 and err.count("\n") == 1


def test_a_race_without_a_fall_is_told_and_not_drawn(page: Page) -> None:
    text = rendered(dataclasses.replace(page, race=(RacePoint(block=0, survivors=6.0),)))
    assert "No strategy fell" in Parsed(text).text and "<svg" not in text
    assert "<svg" in rendered(page) or len(page.race) < 2


def test_copies_are_told_by_task(page: Page) -> None:
    assert page.facts is not None and page.facts.sources
    sources = tuple(
        dataclasses.replace(
            each, reasons={"duplicate": 31, "contaminated": 17}, near_duplicates=1234
        )
        for each in page.facts.sources
    )
    copies = CopiesFacts(duplicates=True, contamination=True, near="")
    held_out = (HeldOutFacts(name="exam", file="exam.jsonl", sha256="ab" * 32),)
    facts = dataclasses.replace(page.facts, sources=sources, copies=copies, held_out=held_out)
    text = Parsed(rendered(dataclasses.replace(page, facts=facts))).text
    assert "with other rows and with held-out problems" in text
    assert "31" in text and "17" in text and "1,234" in text and "exam.jsonl" in text
    facts = dataclasses.replace(page.facts, copies=None)
    text = Parsed(rendered(dataclasses.replace(page, facts=facts))).text
    assert "the run did not ask for it" in text
