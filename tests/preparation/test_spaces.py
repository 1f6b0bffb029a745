from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import pre_tokenizers
from transformers import AutoTokenizer

from orca2_gen.preparation.spaces import SPACE, keep_spaces_out
from tests.conftest import sentencepiece_bpe, write_tokenizer


def with_always() -> object:
    tokenizer = sentencepiece_bpe()
    tokenizer.normalizer = None
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(
        replacement=SPACE, prepend_scheme="always", split=False
    )
    return tokenizer


@pytest.fixture(scope="session", params=["prepend", "always"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    """A tokenizer as it was, and mended, saved and loaded again."""
    made = sentencepiece_bpe() if request.param == "prepend" else with_always()
    folder = tmp_path_factory.mktemp("spaces")
    write_tokenizer(folder, made, None, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    before, mended = (AutoTokenizer.from_pretrained(folder) for _ in range(2))
    keep_spaces_out(mended)
    mended.save_pretrained(folder / "mended")
    return [before, AutoTokenizer.from_pretrained(folder / "mended")]


@given(text=st.text(alphabet="ab the[]I\n") | st.text())
def test_a_text_has_the_ids_that_it_had(pair: list, text: str) -> None:  # type: ignore[type-arg]
    before, mended = pair
    if not text.startswith((" ", SPACE)):  # a space before a space is one of the two now
        assert mended.encode(text) == before.encode(text)


@given(text=st.text(alphabet="ab the[]I\n", min_size=1))
def test_no_space_is_written_behind_a_control_token(pair: list, text: str) -> None:  # type: ignore[type-arg]
    _, mended = pair
    behind = mended.encode(f"</s>{text}", add_special_tokens=False)
    assert mended.convert_ids_to_tokens(behind[:1]) == ["</s>"]
    assert "".join(mended.convert_ids_to_tokens(behind[1:])).replace("<0x0A>", "\n") == (
        text.replace(" ", SPACE)
    )


def test_other_tokenizers_are_left_alone(chatml_dir: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(chatml_dir)
    before = tokenizer.backend_tokenizer.to_str()
    keep_spaces_out(tokenizer)
    assert tokenizer.backend_tokenizer.to_str() == before
