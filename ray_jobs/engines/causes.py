"""The output of an engine's processes -> why it died, in one line, and what to do about it.

vLLM ends a failed start with "See root cause above", and the cause stands in the output of another
process, between the lines of its siblings. So the lines are sorted by process first; each then
holds whole tracebacks.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

_PROCESS = re.compile(r"\((?P<process>[^()]*\bpid=\d+)\) ?")
"""What vLLM writes before each line of a process: `(Worker_TP0 pid=1234)`."""
_LEVEL = re.compile(r"(?P<level>[A-Z]+) \d\d-\d\d \d\d:\d\d:\d\d \[[^\]]*\] ?")
"""What its logger writes: `ERROR 11-29 20:51:01 [core.py:1108]`."""
_HARMLESS = ("DEBUG", "INFO", "WARNING")
_TRACEBACK = "Traceback (most recent call last):"
_EXCEPTION = re.compile(r"[A-Za-z_][\w.]*(: .*)?")
_AFTERWARDS = "During handling of the above exception"
_EFFECT = "The above exception was the direct cause"
_PYDANTIC = re.compile(
    r"pydantic_core\.\S*ValidationError: \d+ validation errors? for (\w+)( Value error,)?"
)
_FATAL = re.compile(r"error|fatal|abort|terminate called", re.IGNORECASE)
_MESSAGE_LINES = 3
_MOST_CHARACTERS = 400
_FOLLOWS = re.compile(
    r"Engine core initialization failed|Engine core proc \S+ died|Engine process failed"
    r"|WorkerProc initialization failed|EngineDeadError|EngineCore encountered an issue"
    r"|^SystemExit|^KeyboardInterrupt|BrokenPipeError|ConnectionResetError"
    r"|Worker proc \S+ died|Cancelled|cancelled$"
)
"""Exceptions that only say that another process failed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Known:
    """A cause that can be told from a line, and its remedy."""

    pattern: re.Pattern[str]
    remedy: str


def _known(pattern: str, remedy: str) -> _Known:
    return _Known(pattern=re.compile(pattern, re.IGNORECASE), remedy=remedy)


_CAUSES = (
    _known(
        r"free memory on device .* is less than desired",
        "another process holds the GPU's memory: end it, or lower gpu_memory_utilization",
    ),
    _known(
        r"no available memory for the cache blocks|larger than the (available|maximum).* KV cache"
        r"|larger than the maximum number of tokens that can be stored in KV cache"
        r"|KV cache is needed, which is larger than",
        "lower max_model_len or max_num_seqs, raise gpu_memory_utilization (kv_cache_memory_bytes "
        "where it is set), or spread the model over more devices (tensor_parallel_size)",
    ),
    _known(
        r"out of memory|OutOfMemoryError|cannot allocate memory|std::bad_alloc|DefaultCPUAllocator",
        "lower gpu_memory_utilization, max_num_seqs, max_num_batched_tokens or "
        "kv_cache_memory_bytes, or spread the model over more devices (tensor_parallel_size)",
    ),
    _known(
        r"NVIDIA driver on your system is too old|CUDA driver version is insufficient"
        r"|forward compatibility was attempted|no kernel image is available|CUDA error 803"
        r"|system has unsupported display driver",
        "the node's NVIDIA driver is older than the CUDA of the installed torch needs "
        "(docs/cluster.md names the version): update the driver, or install a torch for its CUDA",
    ),
    _known(
        r"Found no NVIDIA driver|libcuda\.so|No CUDA GPUs are available|Failed to infer device type"
        r"|Can't initialize NVML|NVML_ERROR",
        "this process sees no GPU: start its node's Ray where nvidia-smi works (in a container, "
        "with its runtime), and do not empty CUDA_VISIBLE_DEVICES",
    ),
    _known(
        r"\bnccl|ProcessGroupNCCL|unhandled (system|cuda) error",
        "set NCCL_DEBUG=INFO in the engine's env for NCCL's own reason; usual ones are a small "
        "/dev/shm and the wrong network (NCCL_SOCKET_IFNAME)",
    ),
    _known(
        r"C compiler|InvalidCxxCompiler|no working C\+\+ compiler|Python\.h|\bcc1plus\b"
        r"|'gcc'|'g\+\+'|\bnvcc\b|CUDA_HOME|\bninja\b",
        "a kernel is compiled at the start: install the compiler that it names on every node "
        "(docs/cluster.md, What every node needs)",
    ),
    _known(
        r"SafetensorError|deserializing header|MetadataIncompleteBuffer|incomplete metadata"
        r"|InvalidHeader|HeaderTooLarge|invalid header|not fully covered",
        "a file of weights is cut short or damaged: compare its size with the original, copy it "
        "again",
    ),
    _known(
        r"quantization|quant_method|quantize_config|config file for (awq|gptq)",
        "the weights are not quantized so: leave `quantization` out, and the model's own config "
        "decides",
    ),
    _known(
        r"max_model_len|max_position_embeddings|maximum position",
        "lower max_model_len to what the model takes",
    ),
    _known(
        r"address already in use|EADDRINUSE",
        "another process of the node has the port: end what an earlier run left, or set VLLM_PORT "
        "in the engine's env to the first of a free range",
    ),
    _known(
        r"path too long|AF_UNIX path|File name too long|longer than \d+ characters",
        "the path of a socket is too long: set TMPDIR on the node to a short directory, as /tmp",
    ),
    _known(
        r"bus error|SIGBUS|/dev/shm|unable to (open|write) shared memory",
        "shared memory is full: give the container a larger /dev/shm, and remove what lies in it",
    ),
    _known(
        r"no space left on device|disk quota exceeded",
        "a disk of the node is full: free it, or put VLLM_CACHE_ROOT and TMPDIR on another",
    ),
    _known(
        r"read-only file system|permission denied",
        "the process may not write there: set HOME (or VLLM_CACHE_ROOT, TRITON_CACHE_DIR and "
        "TORCHINDUCTOR_CACHE_DIR) and TMPDIR to directories that it may write",
    ),
    _known(
        r"cannot open shared object file|ModuleNotFoundError|undefined symbol",
        "install what it names on every node, in the Python that Ray runs there",
    ),
    _known(
        r"bfloat16 is only supported on|compute capability",
        "the GPU is too old for this: set dtype to float16, or use another GPU",
    ),
    _known(
        r"divisible by tensor parallel|attention heads.*tensor|tensor_parallel_size",
        "give a tensor_parallel_size that divides the model's attention heads",
    ),
)


def root_cause(printed: str, *, latest: bool = False) -> str:
    """Why an engine failed, as its processes printed it, on one line; empty if they did not say.

    Args:
        printed: output of all processes of the engine, as vLLM marks and mixes it.
        latest: whether the last complaint counts and not the first, since an engine that works for
            hours may print some that do no harm.
    """
    found = [line for line in _complaints(printed) if not _FOLLOWS.search(line)]
    if latest:
        found.reverse()
    cause = next((line for line in found if remedy(line)), found[0] if found else "")
    return cause if len(cause) <= _MOST_CHARACTERS else cause[:_MOST_CHARACTERS] + " ..."


def remedy(cause: str) -> str:
    """What to do about a cause; empty if it is not one that we know."""
    return next((known.remedy for known in _CAUSES if known.pattern.search(cause)), "")


def _complaints(printed: str) -> Iterator[str]:
    """The exceptions of each process in the order of their printing, then other lines of errors."""
    others: list[str] = []
    for lines in _by_process(printed):
        yield from _exceptions(lines, others)
    yield from others


def _by_process(printed: str) -> list[list[str]]:
    """The lines of each process without what vLLM writes before them; harmless lines are left out.

    The process that complained first comes first.
    """
    found: dict[str, list[str]] = {}
    first_complaint: dict[str, int] = {}
    for number, raw in enumerate(printed.splitlines()):
        line, process = raw, ""
        if mark := _PROCESS.match(line):
            process, line = mark["process"], line[mark.end() :]
        if level := _LEVEL.match(line):
            line = line[level.end() :]
            if level["level"] in _HARMLESS:
                continue
        found.setdefault(process, []).append(line)
        if line.strip() == _TRACEBACK:
            first_complaint.setdefault(process, number)
    order = sorted(found, key=lambda process: first_complaint.get(process, sys.maxsize))
    return [found[process] for process in order]


def _exceptions(lines: list[str], others: list[str]) -> Iterator[str]:
    """The exception of each traceback, of a chain the one to blame; other lines go to `others`."""
    blamed, link, index = "", "", 0
    while index < len(lines):
        line = lines[index]
        index += 1
        if line.startswith((_AFTERWARDS, _EFFECT)):
            link = line
        elif line.strip() == _TRACEBACK:
            while index < len(lines) and (lines[index].startswith(" ") or not lines[index]):
                index += 1
            message = _message(lines[index : index + 1 + _MESSAGE_LINES])
            index += 1
            if blamed and not link:  # another chain
                yield blamed
            # Of a cause and its effect the cause; of a fallback that failed, the failure.
            blamed = blamed if blamed and link.startswith(_EFFECT) else message or blamed
            link = ""
        elif not line.startswith(" ") and _FATAL.search(line):
            others.append(line.strip())
    if blamed:
        yield blamed


def _message(lines: Iterable[str]) -> str:
    """The exception in its first line, with the indented lines that go on with its message."""
    first, *more = lines or [""]
    if not _EXCEPTION.match(first):
        return ""
    said = [first.strip()]
    for line in more:
        if not line.startswith(" ") or "For further information visit" in line:
            break
        said.append(re.sub(r" \[type=.*", "", line.strip()))
    return _PYDANTIC.sub(r"\1:", " ".join(said))
