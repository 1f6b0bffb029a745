from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from orca2_gen import cli
from tests.preparation.pretrained_models import KINDS, write_base


def test_the_command_prints_what_it_added_and_where(tmp_path: Path) -> None:
    model = write_base(tmp_path / "base", KINDS[0])
    done = CliRunner().invoke(cli.cli, ["prepare", str(model), str(tmp_path / "student")])
    assert done.exit_code == 0
    assert done.stdout.splitlines() == [
        "added [PAD] 559, <|im_start|> 560, <|im_end|> 561",
        "559 -> 562 rows in the embedding, a head of its own",
        "a conversation begins with <s> 1",
        "an answer ends with <|im_end|> 561, a text of the base model with </s> 2",
        f"{tmp_path / 'student'}: a student directory",
    ]


def test_a_hub_s_name_is_one_line_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    names = ["orca2", "prepare", "meta-llama/Llama-2-13b-hf", str(tmp_path / "student")]
    monkeypatch.setattr("sys.argv", names)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    printed = capsys.readouterr()
    assert ended.value.code == 2 and not printed.out
    assert printed.err == (
        "Error: MODEL: meta-llama/Llama-2-13b-hf is no directory; give a model's directory on this "
        "machine, nothing is downloaded\n"
    )
