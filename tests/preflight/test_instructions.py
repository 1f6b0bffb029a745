from __future__ import annotations

from pathlib import Path

import pytest

from orca2_gen.config.load import load_config
from orca2_gen.provenance.inputs import read_texts
from orca2_gen.strategies import Strategies
from tests.conftest import CHATML, Write, byte_level_bpe, write_tokenizer


@pytest.fixture
def config_file(tmp_path: Path, write_config: Write, strategies: Strategies) -> Path:
    """A run whose student's template writes a part of an instruction."""
    run = " ".join(strategies.instructions["extract_generate"].split()[5:13])
    template = f"<|im_start|>system\n{run}<|im_end|>\n{CHATML}"
    folder = tmp_path / "writes"
    write_tokenizer(folder, byte_level_bpe(), template, eos_token="<|im_end|>")
    file = write_config()
    # The teacher's template may write what it likes: its prompts are no rows.
    student, teacher = file.read_text().split("[teacher]")
    at = student.index('tokenizer = "')
    line = student[at : student.index("\n", at)]
    student = student.replace(line, f'tokenizer = "{folder}"')
    file.write_text(f"{student}[teacher]{teacher}")
    return file


def test_a_student_whose_template_writes_an_instruction_is_refused_in_one_line(
    config_file: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"^student\.tokenizer: ") as refused:
        read_texts(load_config(config_file))
    line = str(refused.value)
    assert "\n" not in line and str(tmp_path / "writes") in line
    assert "8 words of the instruction of extract_generate" in line
    assert "before the system message" in line and "take the words out" in line


def test_where_rows_keep_their_instruction_a_template_may_write_one(config_file: Path) -> None:
    config = load_config(config_file, ('erasure.prompts="instruction_kept"',))
    assert read_texts(config).strategies.names
