from __future__ import annotations

import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from orca2_gen.config.engine import VLLMEngineConfig
from ray_jobs.engines.compiling import cache_root, compiling


class Failed(Exception):
    pass


def starts(configs: list[VLLMEngineConfig], *, fail: int = 0) -> tuple[int, list[int]]:
    """The most engines that started at once, and the numbers beside each as it began.

    The first `fail` to begin do not come up.
    """
    running: list[int] = []
    beside: list[int] = []
    guard = threading.Lock()

    def start(config: VLLMEngineConfig) -> None:
        with suppress(Failed), compiling(config, (("vllm", "0.26"),)):
            with guard:
                beside.append(len(running))
                running.append(len(beside))
                number = len(beside)
            time.sleep(0.2)
            with guard:
                running.remove(number)
            if number <= fail:
                raise Failed

    threads = [threading.Thread(target=start, args=(config,)) for config in configs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert len(beside) == len(configs)
    return 1 + max(beside), beside


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_CACHE_ROOT", str(tmp_path / "cache"))


def test_one_engine_of_a_model_compiles_and_the_others_then_start_together() -> None:
    most, beside = starts([VLLMEngineConfig(model="m")] * 5)
    assert beside[:2] == [0, 0], "the second begins once the first is up"
    assert most > 1, "the rest do not wait for each other"
    most, beside = starts([VLLMEngineConfig(model="m")] * 3)
    assert beside[1] == 1, "what is compiled is compiled in later runs too"


def test_an_engine_that_does_not_come_up_leaves_the_compiling_to_the_next() -> None:
    _, beside = starts([VLLMEngineConfig(model="m")] * 4, fail=2)
    assert beside[:4] == [0, 0, 0, 0], "two fail alone, and a third compiles alone"


@pytest.mark.parametrize("others", [{"model": "n"}, {"max_model_len": 512}])
def test_engines_that_compile_other_graphs_do_not_wait(others: dict[str, object]) -> None:
    fields: dict[str, object] = {"model": "m"}
    configs = [VLLMEngineConfig(**(fields | each)) for each in ({}, others)]  # type: ignore[arg-type]
    assert starts(configs)[0] == 2


def test_engines_that_compile_nothing_do_not_wait(tmp_path: Path) -> None:
    assert starts([VLLMEngineConfig(model="m", enforce_eager=True)] * 2)[0] == 2
    assert not (tmp_path / "cache").exists()


def test_an_engine_starts_where_no_lock_can_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cache").write_text("a file")
    assert starts([VLLMEngineConfig(model="m")] * 2)[0] == 2
    assert "may compile at the same time" in capsys.readouterr().out


def test_the_locks_lie_where_vllm_keeps_what_it_compiles(monkeypatch: pytest.MonkeyPatch) -> None:
    envs = pytest.importorskip("vllm.envs")
    for name, value in (("VLLM_CACHE_ROOT", "/a/b"), ("XDG_CACHE_HOME", "/c"), ("", "")):
        monkeypatch.delenv("VLLM_CACHE_ROOT", raising=False)
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        environment = {name: value} if name else {}
        for key, said in environment.items():
            monkeypatch.setenv(key, said)
        found = envs.environment_variables["VLLM_CACHE_ROOT"]()
        assert cache_root(environment) == Path(found)
