from __future__ import annotations

import json
import os
import re
import socket
import urllib.request
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from orca2_gen.console import progress
from orca2_gen.console.metrics import METRICS_FILE, MetricsFile, PrometheusPage
from orca2_gen.console.progress import served, show_stage
from orca2_gen.console.stage import StageProgress
from orca2_gen.foresight.seconds import Foretold
from orca2_gen.run_directory.engine_figures import (
    Answers,
    EngineFigures,
    figures_path,
    write_figures,
)
from tests.console.test_progress import receipt


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port


def working_engine(run_dir: Path, replica: int, model: str = "m") -> EngineFigures:
    figures = EngineFigures(
        start=f"s{replica}",
        stage="scores",
        model=model,
        replica=replica,
        node="n",
        seconds=40.0,
        start_seconds=10.0,
        busy_seconds=30.0,
        num_open=7,
        num_running=5,
        cache_usage=0.5,
        preemptions=2,
        generated_tokens=900,
        answers={
            "step_by_step": Answers(
                requests=4, truncated=1, prompt_tokens=100, cached_tokens=25, completion_tokens=80
            )
        },
        rows={"step_by_step": 4},
    )
    write_figures(figures_path(run_dir, f"{model}-{replica}", figures.start), figures)
    return figures


def stage_of(run_dir: Path, num_engines: int) -> StageProgress:
    stage = StageProgress(stage="scores", amount=None, run_dir=run_dir)
    for replica in range(num_engines):
        working_engine(run_dir, replica)
    stage.look()
    stage.advance(receipt(input=8))
    return stage


def lines_of(run_dir: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (run_dir / METRICS_FILE).read_text().splitlines()]


def test_a_line_says_what_all_engines_of_the_stage_do(tmp_path: Path) -> None:
    stage = stage_of(tmp_path, 3)
    MetricsFile(tmp_path).write(stage)
    [line] = lines_of(tmp_path)
    assert (line["stage"], line["units"]) == ("scores", 1)
    assert (line["rows_accepted"], line["rows_rejected"]) == (8, 0)
    assert (line["engines_up"], line["engines_loading"]) == (3, 0)
    assert (line["requests_open"], line["requests_running"], line["preemptions"]) == (21, 15, 6)
    assert (line["kv_cache_usage"], line["prefix_hit_share"]) == (0.5, 0.25)
    assert line["seconds_left"] is None


def test_rejected_rows_are_told_apart(tmp_path: Path) -> None:
    stage = stage_of(tmp_path, 1)
    stage.advance(receipt(input=5, rejected=3))
    MetricsFile(tmp_path).write(stage)
    [line] = lines_of(tmp_path)
    assert (line["rows_accepted"], line["rows_rejected"]) == (10, 3)
    assert "10 rows and 3 rejected" in stage.closing_line()


@pytest.mark.parametrize("kind", ["directory", "link", "pipe"])
def test_what_is_no_regular_file_is_left_alone_and_ends_no_stage(tmp_path: Path, kind: str) -> None:
    path, target = tmp_path / METRICS_FILE, tmp_path / "diary"
    target.write_text("a diary without a last line break")
    if kind == "directory":
        path.mkdir()
    elif kind == "link":
        path.symlink_to(target)
    else:
        os.mkfifo(path)
    MetricsFile(tmp_path).write(stage_of(tmp_path, 1))
    assert target.read_text() == "a diary without a last line break"
    assert path.is_dir() or path.is_symlink() or path.is_fifo()


def test_counters_do_not_fall_while_a_file_cannot_be_read(tmp_path: Path) -> None:
    page = PrometheusPage(free_port())
    stage = stage_of(tmp_path, 2)
    page.begin(stage)

    def requests() -> list[float]:
        return [
            sample.value
            for family in page.collect()
            for sample in family.samples
            if sample.name == "orca2_requests_total"
        ]

    before = requests()
    (tmp_path / "engines" / "m-1.s1.json").unlink()
    stage.look()
    page.close()
    assert requests() == before == [8.0]


def test_a_stage_leaves_lines_and_one_at_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "METRICS_SECONDS", 3600.0)
    with show_stage("scores", None, run_dir=tmp_path) as advance:
        advance(receipt(input=3))
    with show_stage("examples", None, run_dir=tmp_path):
        pass
    assert [(line["stage"], line["rows_accepted"]) for line in lines_of(tmp_path)] == [
        ("scores", 3)
    ]


def page_on(port: int) -> dict[str, dict[tuple[str, ...], float]]:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
        text = answer.read().decode()
    return {
        sample.name: {tuple(s.labels.values()): s.value for s in family.samples}
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_prometheus_reads_the_stage_in_progress_and_nothing_between_stages(tmp_path: Path) -> None:
    port = free_port()
    with served(tmp_path, port) as track:
        assert page_on(port) == {}
        with track("scores", None) as advance:
            advance(receipt(input=8))
            found = page_on(port)
            assert found["orca2_rows_accepted"] == {("scores",): 8.0}
            assert found["orca2_rows_rejected"] == {("scores",): 0.0}
        assert page_on(port) == {}
    with pytest.raises(OSError):
        page_on(port)


def test_tokens_are_summed_over_engines_by_strategy_and_model(tmp_path: Path) -> None:
    port = free_port()
    page = PrometheusPage(port)
    try:
        page.begin(stage_of(tmp_path, 2))
        found = page_on(port)
    finally:
        page.close()
    # In the order of the labels' names: model, token type, stage, strategy.
    assert found["gen_ai_client_token_usage_total"] == {
        ("m", "input", "scores", "step_by_step"): 200.0,
        ("m", "output", "scores", "step_by_step"): 160.0,
    }
    labels = ("m", "scores", "step_by_step")
    assert found["orca2_requests_total"] == {labels: 8.0}
    assert found["orca2_truncated_requests_total"] == {labels: 2.0}
    assert found["orca2_engines_up"] == {("scores",): 2.0}


def test_what_the_engines_of_a_stage_did_stays_until_the_next(tmp_path: Path) -> None:
    page = PrometheusPage(free_port())
    page.begin(stage_of(tmp_path, 1))
    page.end()
    found = {sample.name for family in page.collect() for sample in family.samples}
    page.close()
    assert "gen_ai_client_token_usage_total" in found and "orca2_engines_up" not in found


def test_a_port_that_is_taken_is_one_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ValueError, match=f"--metrics-port {port}: .*; give a port"):
            PrometheusPage(port)


def test_the_dashboard_shows_what_is_served_and_nothing_else(tmp_path: Path) -> None:
    page = PrometheusPage(free_port())
    stage = stage_of(tmp_path, 1)
    stage.foretold = Foretold(seconds=5.0, low=4.0, high=6.0)
    page.begin(stage)
    served_names = {sample.name for family in page.collect() for sample in family.samples}
    page.close()
    dashboard = json.loads((Path(__file__).parents[2] / "ray_jobs/grafana.json").read_text())
    expressions = [t["expr"] for panel in dashboard["panels"] for t in panel["targets"]]
    assert set(re.findall(r"\b(?:orca2|gen_ai_client)_\w+", " ".join(expressions))) == served_names
