"""Topics -> a task file of conversations to be summarised, all written by the teacher.

Orca 2 has 2,000 doctor-patient conversations with summaries that its teacher wrote, to teach a
specialised skill (arXiv 2311.11045, section 4.1). Here the topics are the user's. Writing is
teaching: the topics are a task, and the only strategy (synthesis.toml) makes two calls, first the
conversation, then its summary. The result is a plain task file, which a later run reads with
`format = "jsonl"` and `answer_type = "summary"`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from orca2_gen.config.schema import Config
from orca2_gen.config.task import TaskConfig
from orca2_gen.grading.grade import final_text
from orca2_gen.records import Problem, Rationale
from orca2_gen.run_directory.arrow_files import read_records
from orca2_gen.run_directory.durable_files import write_bytes
from orca2_gen.run_directory.ledger import Ledger, read_ledger
from orca2_gen.run_directory.regular_files import UnusableFile, read_regular

STRATEGY = "write_conversation"
REQUEST = "Summarise this conversation."


def synthesis_config(config: Config, topics: Path, run_dir: Path) -> Config:
    """The Config of a run in which a config's teacher writes a conversation for each topic.

    Args:
        config: the config whose teacher writes, as its `[rationales]` says.
        topics: a file of JSON objects, one per line, with `topic`, optionally `id` and `category`.
        run_dir: that run's directory.
    """
    body = config.model_dump(mode="json")
    task = TaskConfig(
        name="topics",
        format="jsonl",
        path=str(topics.resolve()),
        answer_type="summary",
        columns={
            "question": "topic",
            "answer": "topic",
            "id": "id",
            "category": "category",
            "sub_category": "sub_category",
        },
    )
    return Config.model_validate(
        body
        | {
            "run_dir": str(run_dir),
            "strategies": str(Path(__file__).with_name("synthesis.toml")),
            "tasks": [task.model_dump(mode="json")],
            "taxonomy": None,
            "student": body["teacher"],  # nothing is scored, and only the teacher's room counts
            "scoring": {"max_tokens": 1, "retry_max_tokens": 1},
            "selection": {"policy": f"fixed:{STRATEGY}", "none_solved": STRATEGY},
            "rationales": body["rationales"] | {"verify": False},
            "evaluation": {},
        }
    )


def check_replaceable(file: Path, topics: Path, run_dir: Path) -> None:
    """Checks that a task file may be written: nothing is there, or what this run wrote.

    Raises:
        ValueError: it is somebody's, or no file; it is as it was.
    """
    if not file.exists() and not file.is_symlink():
        return
    if file.exists() and topics.exists() and file.samefile(topics):
        raise ValueError(f"OUT is {file}, and so is TOPICS, which would be lost; give another OUT")
    ledger = read_ledger(run_dir)
    mine = _task_file(list(_rows(ledger)))
    try:
        is_mine = bool(ledger.units) and read_regular(file, len(mine)) == mine
    except (UnusableFile, FileNotFoundError):
        is_mine = False
    if not is_mine:
        raise ValueError(
            f"{file} is there already and is not what {run_dir} wrote, so it would be lost; move "
            "it away, or give another OUT"
        )


def write_task_file(ledger: Ledger, file: Path) -> int:
    """Writes the conversations of a run as a task file and returns their number."""
    rows = list(_rows(ledger))
    file.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(file, _task_file(rows))
    return len(rows)


def _task_file(rows: Sequence[Mapping[str, str]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def _rows(ledger: Ledger) -> Iterator[dict[str, str]]:
    written_on: set[str] = set()
    for receipt in ledger.committed("rationales"):
        entry = ledger.units["problems", receipt.unit].accepted
        topics = {t.problem_id: t for t in read_records(ledger.run_dir, entry, Problem)}
        for written in read_records(ledger.run_dir, receipt.accepted, Rationale):
            conversation, summary = (final_text(each.text) for each in written.completions)
            topic = topics[written.problem_id]
            own = written.problem_id.rpartition("/")[2]
            is_further = written.problem_id in written_on
            written_on.add(written.problem_id)
            row = {
                # No topic's own id holds a slash.
                "id": f"{own}/{written.attempt}" if is_further else own,
                "question": f"{conversation}\n\n{REQUEST}",
                "answer": summary,
                "topic": topic.question,
            }
            places = {"category": topic.category, "sub_category": topic.sub_category}
            yield row | {name: place for name, place in places.items() if place}
