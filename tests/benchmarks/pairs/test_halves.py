from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.pairs.halves import halves, write_halves

PASSAGES = st.lists(st.sampled_from(["", "  ", None, "one", "two", "three"]), min_size=2)


def _lines(passages: list[str | None]) -> list[str]:
    return [json.dumps({"passage": p, "question": str(n)}) for n, p in enumerate(passages)]


@given(PASSAGES, st.integers())
def test_every_line_is_in_one_half_and_every_passage_too(
    passages: list[str | None], seed: int
) -> None:
    lines = _lines(passages)
    own = [p if p and p.strip() else f"line {n}" for n, p in enumerate(passages)]
    if len(set(own)) < 2:
        with pytest.raises(ValueError, match="two passages"):
            halves(lines, seed)
        return
    parts = halves(lines, seed)
    assert sorted([*parts[0], *parts[1]]) == sorted(lines)
    trained, held_out = ({own[lines.index(line)] for line in part} for part in parts)
    assert not trained & held_out
    assert abs(len(parts[0]) - len(parts[1])) <= max(map(own.count, own))


def test_the_same_file_is_halved_the_same_way_again(tmp_path: Path) -> None:
    source = tmp_path / "agieval_x.jsonl"
    source.write_text("\n".join(_lines(["a", "b", "b", None, "c"])) + "\n")
    first = [path.read_bytes() for path in write_halves(source, tmp_path / "tasks")]
    again = [path.read_bytes() for path in write_halves(source, tmp_path / "tasks")]
    assert first == again
    assert sorted(b"".join(first).splitlines()) == sorted(source.read_bytes().splitlines())


@pytest.mark.parametrize("body", [b"", b"{\n", b"[1]\n[2]\n", b"\xff\xfe\n", b'{"a": 1}\n'])
def test_a_file_that_makes_no_halves_is_named_in_one_line(tmp_path: Path, body: bytes) -> None:
    source = tmp_path / "agieval_x.jsonl"
    source.write_bytes(body)
    with pytest.raises(ValueError, match=r"agieval_x.jsonl: .*AGIEval's rows") as caught:
        write_halves(source, tmp_path / "tasks")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "tasks").exists()
