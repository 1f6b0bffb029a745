from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca2_gen.config.engine import VLLMEngineConfig
from orca2_gen.config.load import load_config, resolved
from orca2_gen.config.secrecy import check_no_secrets, is_secret_name, secret_in
from orca2_gen.exit_codes import USAGE
from tests.conftest import Write
from tests.faults.drivers import ROOT

SECRET_NAMES = (
    *("HF_TOKEN", "API_KEY", "VLLM_API_KEY", "db_password", "SECRET", "DB_PASS", "OPENAI_APIKEY"),
    *("AWS_ACCESS_KEY_ID", "RAY_AUTH_TOKEN", "AWS_SECRET_ACCESS_KEY", "PGPASSWORD", "NETRC_PASS"),
    *("HTTP_COOKIE", "GOOGLE_CREDENTIALS_FILE", "DB_PWD_2", "SSH_PRIVATE_KEY", "BASIC_AUTH"),
)
ENGINE_NAMES = (
    *("VLLM_MAX_TOKENS_PER_EXPERT_FP4_MOE", "VLLM_MULTI_STREAM_GEMM_TOKEN_THRESHOLD"),
    *("NCCL_IB_PKEY", "VLLM_CPU_OMP_THREADS_BIND", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS"),
    *("HF_HUB_OFFLINE", "TOKENIZERS_PARALLELISM", "PYTORCH_CUDA_ALLOC_CONF", "RAY_worker_niceness"),
)


@pytest.fixture
def judged_file(write_config: Write) -> Path:
    student = Path(__file__).parents[2] / "orca2_gen" / "microworld" / "student"
    return write_config(sections=f'[judge]\nmodel = "{student}"\n')


@pytest.mark.parametrize("name", SECRET_NAMES)
def test_what_reads_like_a_secret_is_refused_in_an_engines_env_and_not_shown(
    judged_file: Path, name: str
) -> None:
    for value in ("hunter2", "1234567"):  # the second is no string
        for sets in ([], [f"judge.env_allowed=['{name}']"]):
            with pytest.raises(ValueError, match=f"judge.env: {name} reads like a secret") as found:
                load_config(judged_file, ["judge.env.HOME='/'", f"judge.env.{name}={value}", *sets])
            assert value not in str(found.value)


@pytest.mark.parametrize("name", ENGINE_NAMES)
def test_the_variables_of_engines_are_accepted(judged_file: Path, name: str) -> None:
    config = load_config(judged_file, [f"judge.env.{name}='1'"])
    assert isinstance(config.judge, VLLMEngineConfig) and config.judge.env == {name: "1"}


def test_another_variable_needs_its_name_in_env_allowed(judged_file: Path) -> None:
    sets = ["judge.env.LD_LIBRARY_PATH='/opt/lib'"]
    with pytest.raises(ValueError, match=r"judge\.env: LD_LIBRARY_PATH is not .* env_allowed"):
        load_config(judged_file, sets)
    config = load_config(judged_file, [*sets, "judge.env_allowed=['LD_LIBRARY_PATH']"])
    assert resolved(config)["judge"]["env_allowed"] == ["LD_LIBRARY_PATH"]


PASSWORD = "pl4nted"
TOKEN = f"hf_{PASSWORD}{'a1' * 12}"
SECRET_VALUES = {
    "a password in a URL": f"postgres://me:{PASSWORD}@host/db",
    "a secret with its name": f"https://host/x?token={PASSWORD}",
    "a token": TOKEN,
    "AWS Access Key": f"AKIA{PASSWORD.upper()}{'Z9' * 5}"[:20],
}


@pytest.mark.parametrize(
    "key",
    ["run_dir", "tasks.0.path", "strategies", "judge.env.VLLM_X", "judge.dtype", "no.such.key"],
)
@pytest.mark.parametrize("kind", SECRET_VALUES)
def test_a_secret_anywhere_in_a_config_is_refused_by_its_key_and_not_shown(
    judged_file: Path, key: str, kind: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(kind)) as found:
        load_config(judged_file, [f"{key}={SECRET_VALUES[kind]}"])
    assert f"{key} holds what reads like" in str(found.value)
    assert PASSWORD not in str(found.value).lower()


@pytest.mark.parametrize(
    "override",
    [
        f"judge.env.DB_PASS:{PASSWORD}",
        f"judge.env.DB_PASS {PASSWORD}",
        f"judge.env=DB_PASS={PASSWORD}",
        f"judge.env=['{PASSWORD}']",
        f"judge.env.VLLM_X=['{PASSWORD}']",
        f"judge=[{{env = {{X = '{PASSWORD}'}}}}]",
        f"judge.env.'X={PASSWORD}'=1",
        f"judge={TOKEN}",
        f"judge.env.{TOKEN}='1'",
        f"{TOKEN}='1'",
        TOKEN,
    ],
)
def test_a_mistake_around_a_secret_does_not_show_it(judged_file: Path, override: str) -> None:
    with pytest.raises(ValueError) as found:
        load_config(judged_file, [override])
    assert PASSWORD not in str(found.value)


@pytest.mark.parametrize(
    "text",
    [
        "postgres://me:p!w@host/db",
        "https:/me:pw@host/x",  # as a path, once it is absolute
        "s3://AKEY:se/cr+et@bucket/x",
        "redis://:pw@host",
        "--api-key pl4nted",
        "PASSWORD: pl4nted",
        "Authorization: Bearer pl4nted12",
        "AccountKey=" + "a" * 86 + "==",
        "ghp_" + "a1" * 18,
        "github_pat_" + "a1" * 20,
        "sk-proj-" + "a1" * 20,
        "xoxb-123456789012-abcdefabcdef",
        "-----BEGIN RSA PRIVATE KEY-----",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2ln",
    ],
)
def test_secrets_are_known_wherever_they_stand(text: str) -> None:
    for around in (text, f"x {text} y"):
        assert secret_in(around)
        with pytest.raises(ValueError, match=r"a\.0\.b holds what reads like"):
            check_no_secrets({"a": [{"b": around}]})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/data/models--meta/snapshots/0123456789abcdef0123456789abcdef01234567",
        "http://127.0.0.1:8265/x",
        "max_tokens=5",
        "0-31|32-63",
        "expandable_segments:True,max_split_size_mb:64",
        "hf_cache",
        "git@host:path",
        "bearer of bad news",
        "/home/a.b@c.d/run:1/x@y",
    ],
)
def test_ordinary_values_are_none(text: str) -> None:
    assert not secret_in(text)


@given(st.text("/abcdefghijklmnopqrstuvwxyz0123456789_.-", max_size=80))
def test_ordinary_paths_are_none(path: str) -> None:
    assert not secret_in("/data" + path)


def test_names_are_judged_by_their_words() -> None:
    assert not any(map(is_secret_name, ENGINE_NAMES))
    assert all(map(is_secret_name, SECRET_NAMES))


def test_nothing_of_a_run_holds_a_secret_of_its_environment(write_config: Write) -> None:
    file = write_config()
    planted = {name: PASSWORD for name in SECRET_NAMES if "RAY" not in name}
    planted |= {"RAY_AUTH_TOKEN": PASSWORD * 8, "HTTPS_PROXY": f"http://me:{PASSWORD}@127.0.0.1:9"}
    words = [sys.executable, "-m", "orca2_gen"]
    for command in (["plan", str(file)], ["run", str(file)], ["verify", str(file.parent / "run")]):
        done = subprocess.run(
            [*words, *command], cwd=ROOT, env=os.environ | planted, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert PASSWORD not in done.stdout + done.stderr
    files = [path for path in (file.parent / "run").rglob("*") if path.is_file()]
    assert len(files) > 10
    assert not [path for path in files if PASSWORD.encode() in path.read_bytes()]


def test_a_run_of_a_config_with_a_secret_writes_and_prints_none_of_it(write_config: Write) -> None:
    file = write_config()
    text = file.read_text()
    for secret in (*SECRET_VALUES.values(), f"redis://:{PASSWORD}@host/0"):
        file.write_text(f"strategies = {secret!r}\n{text}")
        done = subprocess.run(
            [sys.executable, "-m", "orca2_gen", "run", str(file)],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        assert done.returncode == USAGE, done.stderr
        [line] = done.stderr.splitlines()
        assert "strategies holds what reads like" in line
        assert PASSWORD not in (done.stdout + line).lower()
        assert not (file.parent / "run").exists()
