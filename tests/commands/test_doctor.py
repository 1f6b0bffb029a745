from __future__ import annotations

import json
import socket

import pytest

from tests.conftest import Call, Write


def findings(out: str, where: str = "") -> dict[str, dict[str, str]]:
    """About -> the finding, of the places whose name ends so."""
    found = json.loads(out)["findings"]
    return {
        each["about"]: each for name, all_ in found.items() if name.endswith(where) for each in all_
    }


def test_a_machine_is_examined_without_a_config(orca2: Call) -> None:
    code, out, _ = orca2("doctor", "--json")
    found = findings(out)
    assert {"packages", "vLLM", "memory", "HOME"} <= found.keys()
    assert found["packages"]["level"] == "good"
    assert code == (0 if json.loads(out)["works"] else 1)


def test_a_config_s_models_and_run_directory_are_examined(orca2: Call, write_config: Write) -> None:
    file = write_config()
    _, out, _ = orca2("doctor", file, "--json")
    found = findings(out, file.name)
    assert any(about.startswith("run_dir") for about in found)
    assert all(each["level"] != "bad" for each in found.values())
    _, out, _ = orca2("doctor", file)
    assert " bad, " in out and str(file) in out


def test_a_config_that_no_command_accepts_is_bad_and_says_why(
    orca2: Call, write_config: Write
) -> None:
    file = write_config()
    file.write_text(file.read_text() + "\n[nothing]\nkey = 1\n")
    code, out, _ = orca2("doctor", file, "--json")
    assert code == 1 and json.loads(out)["works"] is False
    assert "nothing" in findings(out, file.name)["config"]["found"]


def test_a_cluster_that_does_not_answer_is_told_at_once(
    orca2: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{unused.getsockname()[1]}")
        code, out, _ = orca2("doctor", "--json")
    assert code == 1 and findings(out)["Ray"]["found"] == "nobody answers"


def test_an_address_with_credentials_is_not_shown(
    orca2: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "ray://somebody:hunter2hunter2@head:10001")
    code, out, err = orca2("doctor")
    assert code == 1 and "credentials" in out and "hunter2" not in out + err


def test_a_change_needs_a_config(orca2: Call) -> None:
    code, _, err = orca2("doctor", "--set", "run_dir=x")
    assert code == 2 and "give one" in err
