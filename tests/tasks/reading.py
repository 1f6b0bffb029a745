"""Shared parts of the reader tests: a task from a few bytes, a sample file of every format."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from orca2_gen.records import AnswerType, Problem, Rejection
from orca2_gen.tasks.read import read_task
from orca2_gen.tasks.source import TaskSource
from orca2_gen.tasks.taxonomy import NO_TAXONOMY, Taxonomy

DATA = Path(__file__).parents[2].parent / "shared" / "data"

Found = list[Problem | Rejection]


def source(path: Path, format: str = "jsonl", **options: Any) -> TaskSource:
    return TaskSource(name="t", format=format, path=path, split="test", **options)


def read(
    path: Path, *, format: str = "jsonl", taxonomy: Taxonomy = NO_TAXONOMY, **options: Any
) -> Found:
    return list(read_task(source(path, format, **options), taxonomy).rows)


def read_lines(
    folder: Path,
    content: bytes | str,
    *,
    format: str = "jsonl",
    answer_type: AnswerType | None = None,
    **options: Any,
) -> Found:
    path = folder / "rows.jsonl"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read(path, format=format, answer_type=answer_type, **options)


def read_rows(folder: Path, *rows: dict[str, Any], format: str, **options: Any) -> Found:
    content = "".join(json.dumps(row) + "\n" for row in rows)
    return read_lines(folder, content, format=format, **options)


def only(found: Found) -> Problem:
    (problem,) = found
    assert isinstance(problem, Problem), problem
    return problem


def problems(found: Found) -> list[Problem]:
    return [x for x in found if isinstance(x, Problem)]


def reasons(found: Found) -> list[str]:
    return [x.reason if isinstance(x, Rejection) else "problem" for x in found]


def line(**row: Any) -> str:
    return json.dumps({"question": "What?", "answer": "this"} | row) + "\n"


GOOD = line()


def published(name: str) -> Path:
    path = DATA / name
    if not path.exists():
        pytest.skip(f"{path} is absent: the public data are not part of the repository")
    return path


def parquet_bytes(table: pa.Table, **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


def stream_bytes(table: pa.Table, rows_per_batch: int = 2) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=rows_per_batch)
    return sink.getvalue()


PLAIN_TABLE = pa.table(
    {
        "question": ["What is 1 + 1?", "Which is a bird?", "Which sea?"],
        "answer": ["2", "B", "the north sea"],
        "choices": [None, ["ox", "wren"], None],
    }
)


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


DROP_ROW = {
    "query_id": "q-1",
    "question": "How many goals?",
    "answer": {"number": "2", "spans": [], "date": {"day": "", "month": "", "year": ""}},
    "validated_answers": [{"number": "2.0", "spans": []}, {"number": "", "spans": ["two"]}],
}
CRASS_HEADER = "BatchID;PCTID;Premise;QCC;CorrectAnswer;Answer1;Answer2;PossibleAnswer3\n"

SAMPLES: dict[str, tuple[str, bytes]] = {
    "jsonl": ("rows.jsonl", (GOOD + line(id="x", choices=["a", "b"], answer="B")).encode()),
    "parquet": ("rows.parquet", parquet_bytes(PLAIN_TABLE)),
    "datasets": ("data-0.arrow", stream_bytes(PLAIN_TABLE)),
    "gsm8k": ("gsm8k.jsonl", (line(answer="1+1=2\n#### 2") * 2).encode()),
    "flan": (
        "flan.jsonl",
        b"".join(
            _json(row) + b"\n"
            for row in (
                {"inputs": "Is snow warm?\nOPTIONS:\n- yes\n- no", "targets": "no"},
                {"inputs": "Rhyme on cat.", "targets": "hat", "_task_name": "rhymes:1.0"},
            )
        ),
    ),
    "natural_instructions": (
        "task001_rhymes.json",
        _json(
            {
                "Definition": ["Say what rhymes."],
                "Categories": ["Rhymes"],
                "Positive Examples": [{"input": "sun", "output": "fun", "explanation": "-un"}],
                "Instances": [
                    {"id": "task001-a", "input": "cat", "output": ["hat", "bat", "hat"]},
                    {"id": "task001-b", "input": "", "output": ["any"]},
                ],
            }
        ),
    ),
    "aqua": (
        "aqua.jsonl",
        _json(
            {
                "question": "12 m in 4 parts?",
                "options": ["A)2 m", "B)3 m", "C)4 m", "D)6 m", "E)8 m"],
                "rationale": "12 / 4 = 3\nAnswer: B",
                "correct": "B",
            }
        ),
    ),
    "agieval": (
        "agieval.jsonl",
        _json(
            {
                "passage": "Four sheds stand in a row.",
                "question": "Which is first?",
                "options": ["(A)red", "(B)blue"],
                "label": "A",
                "answer": None,
                "other": None,
            }
        ),
    ),
    "math": (
        "7.json",
        _json(
            {
                "problem": "Find $x$ if $2x=6$.",
                "level": "Level 1",
                "type": "Algebra",
                "solution": "Halving both sides, $x=\\boxed{3}$.",
            }
        ),
    ),
    "bbh": (
        "fruits.json",
        _json(
            {
                "canary": "none",
                "examples": [
                    {"input": "Which is a fruit?\nOptions:\n(A) fig\n(B) fog", "target": "(A)"},
                    {"input": "Is a fig a fruit?", "target": "Yes"},
                    {"input": "Sort: b a", "target": "a b"},
                ],
            }
        ),
    ),
    "deepmind_mathematics": (
        "algebra__linear_1d.txt",
        b"Solve 4*b + 5 = 1 for b.\n-1\nWhat is 2*x + x?\n3*x\n",
    ),
    "drop": ("drop.json", _json({"nfl_7": {"passage": "Two goals.", "qa_pairs": [DROP_ROW]}})),
    "race": (
        "12.txt",
        _json(
            {
                "id": "high12.txt",
                "article": "Ann has a hen.",
                "questions": ["What has Ann?", "Who has a _ ?"],
                "options": [["a dog", "a hen", "a cat", "a cow"], ["Ann", "Ben", "Cy", "Di"]],
                "answers": ["B", "A"],
            }
        ),
    ),
    "crass": (
        "crass.csv",
        (
            CRASS_HEADER
            + "1;4;A cup falls.;What if it had not?;It would be whole.;It would sing.;No.;\n"
            + '1;5;"A; b";Why?;Yes.;No.;Maybe.;"Never; ever"\n'
        ).encode(),
    ),
}
"""Format -> a file in it, written by us."""


def sample_file(folder: Path, format: str) -> Path:
    name, content = SAMPLES[format]
    path = folder / name
    path.write_bytes(content)
    return path


BOUNDED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))
from collections import Counter
from pathlib import Path
from orca2_gen.tasks.columnar import read_columnar
from orca2_gen.tasks.files import TaskFile
from orca2_gen.tasks.statements import BadRowError
path = Path(sys.argv[1])
found = Counter()
try:
    for row in read_columnar(TaskFile(path=path, name=path.name, is_alone=True), []):
        found[row.row.reason if isinstance(row.row, BadRowError) else "row"] += 1
except ValueError as error:
    print(error)
print(dict(found))
# ru_maxrss would count the parent, whose memory a child shares until it starts its program.
peak = next(x for x in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in x)
print(int(peak.split()[1]) // 1024)
"""


def read_bounded(path: Path, *, megabytes: int = 700, seconds: int = 30) -> str:
    """What a reader with little memory says of the file: a line, and the rows by reason."""
    done = subprocess.run(
        [sys.executable, "-c", BOUNDED, str(path)],
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-500:]
    said, most = done.stdout.rstrip().rsplit("\n", 1)
    assert int(most) < megabytes, done.stdout
    return said


def shared(num_chars: int, rows: int) -> pa.DictionaryArray:
    """A column whose rows are one text."""
    return pa.DictionaryArray.from_arrays(pa.repeat(0, rows).cast("int32"), ["x" * num_chars])


def long_texts(num_chars: int, rows: int) -> pa.Array:
    return pa.array(["x" * num_chars] * rows)
