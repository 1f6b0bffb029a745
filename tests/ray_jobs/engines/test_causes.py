from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_jobs.engines.causes import remedy, root_cause

BODY = """\
Traceback (most recent call last):
  File "worker.py", line 1, in load
    load()
    ^^^^^^
{cause}"""
FOLLOWING = """\
Traceback (most recent call last):
  File "actor.py", line 5, in ready
    raise RuntimeError(
RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}"""
SAFETENSORS = (
    "safetensors._safetensors_rust.SafetensorError: Error while deserializing header: incomplete "
    "metadata, file not fully covered"
)
CAUSES = {
    SAFETENSORS: "copy it again",
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.": "max_num_seqs",
    "ValueError: Free memory on device (3.1/139.8 GiB) on startup is less than desired GPU memory "
    "utilization (0.92, 128.6 GiB). Decrease GPU memory utilization.": "another process holds",
    "RuntimeError: The NVIDIA driver on your system is too old (found version 12040).": "driver",
    "torch.distributed.DistBackendError: NCCL error in: ProcessGroupNCCL.cpp:77, unhandled system "
    "error, NCCL version 2.27.5": "NCCL_DEBUG",
    "RuntimeError: Failed to find C compiler. Please specify via CC environment variable.": (
        "compiler"
    ),
    "RuntimeError: Could not find nvcc and default cuda_home='/usr/local/cuda' doesn't exist": (
        "compiler"
    ),
    "ValueError: Cannot find the config file for awq": "`quantization`",
    "zmq.error.ZMQError: Address already in use (addr='tcp://127.0.0.1:5555')": "VLLM_PORT",
    "OSError: AF_UNIX path too long": "TMPDIR",
    "OSError: [Errno 28] No space left on device: '/home/x/.cache/vllm'": "free it",
    "PermissionError: [Errno 13] Permission denied: '/home/x/.cache'": "HOME",
    "ImportError: libcuda.so.1: cannot open shared object file": "no GPU",
}
"""A line as a library ends a start with it -> part of its remedy."""


def of_process(process: str, text: str) -> list[str]:
    """The lines as vLLM's logger writes them for one of its processes."""
    before = f"({process} pid={len(process)}) ERROR 11-29 21:12:24 [executor.py:953] "
    return [before + line for line in text.splitlines()]


@pytest.mark.parametrize("cause", CAUSES)
@given(turns=st.lists(st.integers(0, 1), max_size=12))
def test_the_cause_is_found_among_the_mixed_lines_of_several_processes(
    cause: str, turns: list[int]
) -> None:
    workers = [of_process(f"Worker_TP{rank}", BODY.format(cause=cause)) for rank in range(2)]
    mixed = [workers[rank].pop(0) for rank in turns if workers[rank]]
    mixed += workers[0] + workers[1]
    warnings = [
        "(EngineCore pid=7) WARNING 11-29 21:12:22 [cpu.py:224] an error that is none: fatal",
        "Loading safetensors checkpoint shards:   0% Completed | 0/1 [00:00<?, ?it/s]",
    ]
    after = [
        *of_process("EngineCore", BODY.format(cause="Exception: WorkerProc initialization failed")),
        *FOLLOWING.splitlines(),
    ]
    assert root_cause("\n".join([*warnings, *mixed, *after])) == cause
    assert CAUSES[cause] in remedy(cause)


def test_of_a_cause_and_its_effect_the_cause_is_told_and_of_a_failed_fallback_the_failure() -> None:
    first, second = BODY.format(cause="KeyError: 'one'"), BODY.format(cause="ValueError: two")
    direct = "\n\nThe above exception was the direct cause of the following exception:\n\n"
    afterwards = "\n\nDuring handling of the above exception, another exception occurred:\n\n"
    assert root_cause(first + direct + second) == "KeyError: 'one'"
    assert root_cause(first + afterwards + second) == "ValueError: two"


def test_a_message_of_pydantic_is_told_without_its_advertisement() -> None:
    printed = BODY.format(
        cause=(
            "pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig\n"
            "  Value error, User-specified max_model_len (9) is greater than the derived "
            "max_model_len [type=value_error, input_value=ArgsKwargs((), {'a': 1})]\n"
            "    For further information visit https://errors.pydantic.dev/2.12/v/value_error"
        )
    )
    found = root_cause(printed)
    assert found == (
        "ModelConfig: User-specified max_model_len (9) is greater than the derived max_model_len"
    )
    assert "lower max_model_len" in remedy(found)


def test_a_crash_below_python_is_a_cause_too() -> None:
    printed = "Fatal Python error: Bus error\n\nCurrent thread 0x00007f (most recent call first):\n"
    assert root_cause(printed) == "Fatal Python error: Bus error"
    assert "/dev/shm" in remedy(root_cause(printed))


@given(text=st.text(alphabet="abT:()\n \te", max_size=200))
def test_any_output_gives_one_line(text: str) -> None:
    assert "\n" not in root_cause(text)
    assert root_cause("all is well\n" * 3) == ""


def test_only_consequences_give_no_cause() -> None:
    assert root_cause(FOLLOWING) == ""
