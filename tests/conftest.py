"""Fixtures: tokenizers made at run time, a scripted run's config, one local Ray per session."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from orca2_gen.foresight.amounts import Amount
from orca2_gen.offline import go_offline

go_offline()
os.environ["ORCA2_TEST_SESSION"] = str(os.getpid())  # oracle.py knows our processes by it
os.environ.setdefault("RAY_raylet_start_wait_time_s", "300")  # the machine may be busy
hypothesis.settings.register_profile("shared_cpu", deadline=None, max_examples=40)
hypothesis.settings.load_profile("shared_cpu")

from orca2_gen.chat import Chat, load_chat  # noqa: E402
from orca2_gen.config.arguments import selection_rule  # noqa: E402
from orca2_gen.config.load import load_config  # noqa: E402
from orca2_gen.config.schema import Config  # noqa: E402
from orca2_gen.dataset.figures import DatasetSummary  # noqa: E402
from orca2_gen.dataset.write import DatasetPlan, write_dataset  # noqa: E402
from orca2_gen.provenance.fork import fork_run  # noqa: E402
from orca2_gen.provenance.inputs import read_inputs  # noqa: E402
from orca2_gen.provenance.regrade import Source, open_source  # noqa: E402
from orca2_gen.provenance.stage_keys import stage_determinants, stage_keys  # noqa: E402
from orca2_gen.records import Problem, StudentScore  # noqa: E402
from orca2_gen.run_directory.ledger import read_ledger  # noqa: E402
from orca2_gen.run_directory.units import Receipt  # noqa: E402
from orca2_gen.selection.blocks import Rule  # noqa: E402
from orca2_gen.strategies import OWN_FILE, Strategies, load_strategies  # noqa: E402

STRATEGY_NAMES = (
    "direct_answer",
    "step_by_step",
    "recall_then_generate",
    "recall_reason_generate",
    "extract_generate",
    "explain_then_answer",
)
"""The six names of the Orca 2 paper (arXiv 2311.11045, section 3). A strategies file may have
others."""

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA = (
    "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}"
    "{% set system_message = '<<SYS>>\n' + messages[0]['content'] + '\n<</SYS>>\n\n' %}"
    "{% else %}{% set loop_messages = messages %}{% set system_message = '' %}{% endif %}"
    "{% for message in loop_messages %}{% if message['role'] == 'user' %}"
    "{{ bos_token + '[INST] ' + (system_message if loop.index0 == 0 else '') "
    "+ message['content'] + ' [/INST]' }}"
    "{% elif message['role'] == 'assistant' %}{{ ' ' + message['content'] + ' ' + eos_token }}"
    "{% endif %}{% endfor %}"
)
_CORPUS = (
    "You solve problems step by step. Begin with what is given and what is asked. ",
    "Answer: the number 12 plus 34 is 46. Let us see. How many apples does Mira pack? ",
    "system user assistant [INST] [/INST] <<SYS>> <</SYS>> question, answer, options A) B) C) D)",
)


def write_tokenizer(directory: Path, tokenizer: Any, template: str | None, **tokens: Any) -> Path:
    """A model directory with this tokenizer, as `save_pretrained` writes it."""
    from transformers import PreTrainedTokenizerFast

    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **tokens)
    if template is not None:
        fast.chat_template = template
    fast.save_pretrained(directory)
    return directory


def byte_level_bpe() -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_CORPUS, trainer)
    return tokenizer


def sentencepiece_bpe() -> Any:
    """A tokenizer like Llama 2's: Prepend normalizer, byte fallback, BOS by the post-processor."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors

    letters = sorted({letter.replace(" ", "\u2581") for letter in "".join(_CORPUS)} | {"\u2581"})
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *letters]
    merges = [
        ("\u2581", "a"),
        ("t", "h"),
        ("th", "e"),
        ("\u2581", "the"),
        ("e", "r"),
        ("[", "I"),
        ("s", ">"),
    ]
    pieces += [left + right for left, right in merges]
    vocabulary = {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(
        models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    )
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("\u2581", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    tokenizer.add_special_tokens(
        [AddedToken(t, normalized=False, special=True) for t in ("<unk>", "<s>", "</s>")]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    return tokenizer


@pytest.fixture(scope="session")
def chatml_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("chatml")
    return write_tokenizer(
        folder, byte_level_bpe(), CHATML, eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )


@pytest.fixture(scope="session")
def think_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer with added tokens that are not flagged special, as <think> is in Qwen3."""
    from tokenizers import AddedToken

    tokenizer = byte_level_bpe()
    tokenizer.add_tokens(
        [AddedToken(t, normalized=False, special=False) for t in ("<think>", "</think>")]
    )
    folder = tmp_path_factory.mktemp("think")
    return write_tokenizer(
        folder, tokenizer, CHATML, eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )


@pytest.fixture(scope="session")
def llama_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llama")
    return write_tokenizer(
        folder, sentencepiece_bpe(), LLAMA, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


@pytest.fixture(scope="session", params=["chatml", "think", "llama"])
def chat(request: pytest.FixtureRequest) -> Chat:
    directory: Path = request.getfixturevalue(f"{request.param}_dir")
    return load_chat(str(directory))


@pytest.fixture(scope="session")
def chatml(chatml_dir: Path) -> Chat:
    return load_chat(str(chatml_dir))


@pytest.fixture(scope="session")
def strategies() -> Strategies:
    return load_strategies(None)


@pytest.fixture(scope="session")
def sum_problem() -> Problem:
    return Problem(
        problem_id="sums/train/3",
        task="sums",
        question="What is 4 + 5?",
        target="9",
        answer_type="numeric",
    )


def ungraded_score(problem: Problem, text: str) -> StudentScore:
    """The score that scoring makes of a finished answer to an open problem."""
    return StudentScore(
        problem_id=problem.problem_id,
        task=problem.task,
        strategy="step_by_step",
        role="student",
        attempt=0,
        outcome="ungraded",
        score=0.0,
        answer="",
        text=text,
        finish_reason="stop",
        num_prompt_tokens=10,
        num_cached_tokens=0,
        num_completion_tokens=20,
    )


SHORT = [
    "student.max_model_len=512",
    "teacher.max_model_len=512",
    "scoring.max_tokens=32",
    "rationales.max_tokens=32",
    "judging.max_tokens=4",
]
"""Settings that suit the microworld's models, whose context holds 512 tokens."""


def with_long_context(name: str, target: Path) -> Path:
    """A copy of a microworld model that says that it reads more tokens than it can."""
    model = Path(shutil.copytree(OWN_FILE.with_name("microworld") / name, target))
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 8192}))
    return model


NUM_SUMS, NUM_LETTERS, NUM_BAD = 28, 12, 4


def write_tasks(folder: Path) -> None:
    """Writes 40 problems to two task files, one of which also holds four unreadable rows."""
    folder.mkdir(parents=True, exist_ok=True)
    sums = [
        json.dumps(
            {"id": f"s{n}", "question": f"What is {n} + {2 * n + 3}?", "answer": str(3 * n + 3)}
        )
        for n in range(NUM_SUMS)
    ]
    sums[5:5] = ["{not json", '{"question": "no answer?"}']
    sums += [sums[0], "[]"]
    letters = [
        json.dumps(
            {"question": f"Which one is {n}?", "choices": [str(n), str(n + 1)], "answer": "A"}
        )
        for n in range(NUM_LETTERS)
    ]
    (folder / "sums.jsonl").write_text("\n".join(sums) + "\n")
    (folder / "letters.jsonl").write_text("\n".join(letters) + "\n")


Write = Callable[..., Path]


@pytest.fixture
def write_config(tmp_path: Path, chatml_dir: Path) -> Write:
    """A function that writes a small scripted run's config below a folder, and its path."""

    def write(
        folder: Path = tmp_path,
        *,
        sections: str = "",
        student: str = "",
        selection: str = "",
        day: str = DAY,
    ) -> Path:
        return write_run_config(
            folder, chatml_dir, sections=sections, student=student, selection=selection, day=day
        )

    return write


DAY = "2026-01-15"
"""The day of runs in tests: a run that begins after midnight must equal one that began before."""


def write_run_config(
    folder: Path,
    tokenizer: Path,
    *,
    sections: str = "",
    student: str = "",
    selection: str = "",
    day: str = DAY,
) -> Path:
    """The path of a small scripted run's config; without a day, its template_date is not set."""
    write_tasks(folder)
    file = folder / "run.toml"
    file.write_text(
        f"""
run_dir = "{folder / "run"}"
{f'template_date = "{day}"' if day else ""}
rows_per_unit = 8
[[tasks]]
name = "sums"
format = "jsonl"
path = "sums.jsonl"
answer_type = "numeric"
[[tasks]]
name = "letters"
format = "jsonl"
path = "letters.jsonl"
[student]
engine = "scripted"
tokenizer = "{tokenizer}"
accuracy = {{ direct_answer = 0.2, step_by_step = 0.7 }}
{student}
[teacher]
engine = "scripted"
tokenizer = "{tokenizer}"
accuracy = {{ direct_answer = 0.6, step_by_step = 0.7, recall_reason_generate = 0.9 }}
[selection]
scored_problems = 12
block_size = 4
open_requests = 1
{selection}
[rationales]
max_attempts = 2
{sections}
"""
    )
    return file


@pytest.fixture(scope="session")
def local_ray() -> Iterator[None]:
    from ray_jobs.cluster import ray_instance

    with ray_instance():
        yield


Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def orca2(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Call]:
    """A function that runs `orca2 ...` in this process: (exit code, stdout, stderr)."""
    from orca2_gen.cli import main

    before = signal.getsignal(signal.SIGTERM)

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["orca2", *map(str, arguments)])
        try:
            main()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    yield call
    signal.signal(signal.SIGTERM, before)


@contextmanager
def quiet(stage: str, amount: Amount) -> Iterator[Callable[[Receipt], None]]:
    """A `Track` that shows nothing."""
    yield lambda receipt: None


@dataclass(frozen=True)
class FinishedRun:
    config_file: Path
    config: Config
    run_dir: Path


@pytest.fixture(scope="session")
def undisturbed(
    tmp_path_factory: pytest.TempPathFactory, chatml_dir: Path, local_ray: None
) -> FinishedRun:
    """A whole scripted run; tests copy it before they change it."""
    from ray_jobs.pipeline import run_all
    from ray_jobs.run import open_run

    file = write_run_config(tmp_path_factory.mktemp("undisturbed"), chatml_dir)
    config = load_config(file)
    with open_run(config, quiet) as run:
        run_all(run)
    return FinishedRun(config_file=file, config=config, run_dir=Path(config.run_dir))


@pytest.fixture
def run_copy(undisturbed: FinishedRun, tmp_path: Path) -> Path:
    """A copy of the undisturbed run's directory, which a test may damage."""
    return Path(shutil.copytree(undisturbed.run_dir, tmp_path / "copy"))


def keys_of(config: Config) -> dict[str, str]:
    return stage_keys(stage_determinants(config, read_inputs(config)))


def rule_of(config: Config) -> Rule:
    return selection_rule(config, load_strategies(config.strategies))


def source_of(run_dir: Path, config: Config) -> Source:
    """A run that a run of this config regrades."""
    return open_source(run_dir, config, read_inputs(config))


def dataset_of(run_dir: Path, plan: DatasetPlan, strategies: Strategies) -> DatasetSummary:
    return write_dataset(run_dir, plan, load_chat(plan.tokenizer), strategies)


def forked(source: Path, target: Path, keys: Mapping[str, str]) -> tuple[str, ...]:
    """The stages that a fork into this run directory takes over."""
    target.mkdir(exist_ok=True)
    return fork_run(source, read_ledger(target, writable=True), keys).stages


SUMMARY = pytest.StashKey[dict[str, list[str]]]()
"""Title -> the lines printed below it after all tests."""


def pytest_configure(config: pytest.Config) -> None:
    config.stash[SUMMARY] = {}


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Adds each grader's error rates to the summary: pytest hides the output of a passing test.

    The tests run in processes of pytest-xdist; the process that started them prints the summary.
    """
    from tests.grading.rates import measured, rates_line

    config = session.config
    if measured:
        title = "graders on their hand-made answers (tests/grading)"
        config.stash[SUMMARY][title] = list(map(rates_line, measured))
    if hasattr(config, "workeroutput"):
        config.workeroutput["summary"] = config.stash[SUMMARY]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Takes in the summary of a pytest-xdist process that has ended."""
    node.config.stash[SUMMARY] |= getattr(node, "workeroutput", {}).get("summary", {})


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    for title, lines in config.stash[SUMMARY].items():
        terminalreporter.section(title)
        for line in lines:
            terminalreporter.write_line(line)
