from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from orca2_gen.chat import encode_conversation, load_chat
from orca2_gen.preflight.vocabulary import vocabulary_lines
from orca2_gen.preflight.weights import INDEX, read_weights
from orca2_gen.preparation import Prepared, Wish, prepare
from orca2_gen.records import Message
from tests.conftest import CHATML
from tests.preparation.pretrained_models import KINDS, Kind, body, tensors_of, write_base
from train.trainable import TrainingQuestion, trainable_lines

TURNS = (
    Message(role="system", content="You solve problems step by step."),
    Message(role="user", content="How many apples are 12 plus 34?"),
    Message(role="assistant", content="Answer: the number is 46."),
)


@pytest.fixture(scope="session")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path, Prepared]]:
    """Kind -> base model, student and what was said."""
    made = {}
    for kind in KINDS:
        folder = tmp_path_factory.mktemp(kind.name)
        model = write_base(folder / "base", kind)
        done = prepare(Wish(model=model, out=folder / "student"))
        made[kind.name] = model, folder / "student", done
    return made


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> Kind:
    found: Kind = request.param
    return found


def trained_ids(model: Path) -> set[int]:
    return set(AutoTokenizer.from_pretrained(model).get_vocab().values())


def test_only_the_rows_of_new_tokens_change_bit_for_bit(kind: Kind, bases: Any) -> None:
    model, student, _ = bases[kind.name]
    old, new = tensors_of(model), tensors_of(student)
    assert list(old) == list(new)
    kept = sorted(trained_ids(model))
    rows = body(model, "config.json")["vocab_size"]
    ids = trained_ids(student)
    needed = max(rows, max(ids) + 1)
    grown = 0
    for name, tensor in old.items():
        assert new[name].dtype == tensor.dtype
        if tensor.shape[:1] != (rows,):
            assert torch.equal(new[name].view(torch.uint8), tensor.view(torch.uint8)), name
            continue
        grown += 1
        assert new[name].shape == (needed, *tensor.shape[1:])
        same = kept + sorted(set(range(rows)) - set(kept) - ids)
        assert torch.equal(new[name][same], tensor[same]), name
        fresh = sorted(ids - set(kept))
        assert torch.isfinite(new[name][fresh]).all()
        mean = tensor[kept].double().mean(0)
        spread = tensor[kept].double().std(0)
        far = (new[name][fresh].double() - mean).abs() / (spread + mean.abs()).clamp_min(1e-9)
        assert not fresh or far.max() < 0.05
    assert grown == {"phi": 3, "llama_2": 2, "llama_wide": 2}.get(kind.name, 1)
    assert body(student, "config.json")["vocab_size"] == needed


def test_the_ids_are_those_of_orca_2_and_tokens_that_are_there_stay(bases: Any) -> None:
    for name, (model, student, _) in bases.items():
        before = AutoTokenizer.from_pretrained(model).get_vocab()
        after = AutoTokenizer.from_pretrained(student).get_vocab()
        assert {token: after[token] for token in before} == before
        first = max(before.values()) + 1
        pad = [] if name.startswith(("gemma", "qwen")) else ["[PAD]"]
        more = [each for each in (*pad, "<|im_start|>", "<|im_end|>") if each not in before]
        assert [after[each] for each in more] == list(range(first, first + len(more))), name
        assert set(after) == {*before, *more}


def test_every_prefix_of_the_base_model_has_its_old_logits(kind: Kind, bases: Any) -> None:
    model, student, _ = bases[kind.name]
    rows = sorted(trained_ids(model))
    ids = torch.tensor([rows[5:200:7]])
    with torch.no_grad():
        old = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)(ids).logits
        new = AutoModelForCausalLM.from_pretrained(student, dtype=torch.float32)(ids).logits
    assert torch.allclose(new[..., rows], old[..., rows], atol=1e-5)
    # What the mean promises: a new token never outweighs the base model's by more than its share.
    fresh = sorted(trained_ids(student) - set(rows))
    chance = new.softmax(-1)[..., fresh]
    assert not fresh or chance.max() < 2 / len(rows)


def test_a_conversation_has_the_ids_of_the_template_and_ends_as_generation_does(
    kind: Kind, bases: Any
) -> None:
    model, student, _ = bases[kind.name]
    chat = load_chat(str(student))
    ids, num_prompt = encode_conversation(chat, TURNS)
    tokenizer = AutoTokenizer.from_pretrained(student)
    plain = [{"role": turn.role, "content": turn.content} for turn in TURNS]
    whole = tokenizer.apply_chat_template(plain, tokenize=True, return_dict=False)
    asked = tokenizer.apply_chat_template(
        plain[:-1], tokenize=True, add_generation_prompt=True, return_dict=False
    )
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert ids[-1] == end == chat.end_id == body(student, "config.json")["eos_token_id"]
    base_end = AutoTokenizer.from_pretrained(model).eos_token_id
    generation = body(student, "generation_config.json")
    assert generation["eos_token_id"] == [end, base_end] and generation["max_new_tokens"] == 77
    assert generation["pad_token_id"] == tokenizer.pad_token_id != end
    assert list(ids) == whole[: len(ids)] and len(ids) >= len(whole) - 2
    assert list(ids[:num_prompt]) == asked
    begins = kind.name.startswith(("llama", "gemma"))
    assert (ids[0] == tokenizer.bos_token_id) == begins and ids.count(ids[0]) == 1 + 2 * (
        not begins
    )


def test_plain_text_has_its_old_ids(kind: Kind, bases: Any) -> None:
    model, student, _ = bases[kind.name]
    old, new = (AutoTokenizer.from_pretrained(each) for each in (model, student))
    texts = ["Is it so?", "two  spaces\n\n1234 ", "step by step. Begin", ""]
    if not kind.name.startswith("llama"):  # a control token has no space behind it any more
        texts += ["Is it <s> or </s>?", " a space first"]
    for text in texts:
        assert old(text).input_ids == new(text).input_ids


def test_preflight_accepts_the_directory_for_scoring_and_training_without_a_word(
    kind: Kind, bases: Any
) -> None:
    _, student, _ = bases[kind.name]
    weights = read_weights("student.model", student)
    chat = load_chat(str(student))
    _, odd = vocabulary_lines("student.model", student, chat, weights.tensors)
    assert not weights.odd and not odd
    if kind.model_type != "gpt2":
        asked = TrainingQuestion(
            key="student.model",
            model_dir=student,
            seq_len=256,
            longest=256,
            optimizer="adamw",
            gradient_checkpointing=False,
        )
        trainable_lines(asked)


def test_files_without_rows_for_tokens_are_copied_and_the_index_is_right(
    kind: Kind, bases: Any
) -> None:
    model, student, _ = bases[kind.name]
    index = body(student, INDEX)
    assert index["weight_map"] == body(model, INDEX)["weight_map"]
    tensors = tensors_of(student)
    assert index["metadata"]["total_size"] == sum(t.nbytes for t in tensors.values())
    rows = body(model, "config.json")["vocab_size"]
    for file in set(index["weight_map"].values()):
        held = [tensors_of(model)[n] for n, f in index["weight_map"].items() if f == file]
        if not any(tensor.shape[:1] == (rows,) for tensor in held):
            assert (student / file).read_bytes() == (model / file).read_bytes()
        assert not (student / file).is_symlink() and (student / file).stat().st_nlink == 1
    assert (student / "LICENSE.txt").read_text() == "terms"


def test_two_preparations_have_equal_bytes_and_one_file_the_tensors_of_several(
    tmp_path: Path, bases: Any
) -> None:
    for kind in KINDS:
        model, student, _ = bases[kind.name]
        prepare(Wish(model=model, out=tmp_path / kind.name))
        for path in student.iterdir():
            assert (tmp_path / kind.name / path.name).read_bytes() == path.read_bytes(), path
        whole = write_base(tmp_path / f"{kind.name}-whole", kind, shard="1GB")
        prepare(Wish(model=whole, out=tmp_path / f"{kind.name}-out"))
        one, several = tensors_of(tmp_path / f"{kind.name}-out"), tensors_of(student)
        assert all(torch.equal(one[name], several[name]) for name in several)


def test_a_head_that_is_stored_beside_the_embedding_it_is_tied_to_stays_equal(
    tmp_path: Path,
) -> None:
    model = write_base(tmp_path / "base", KINDS[3], shard="1GB")
    tensors = dict(tensors_of(model))
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    save_file(tensors, model / "model.safetensors", metadata={"format": "pt"})
    prepare(Wish(model=model, out=tmp_path / "student"))
    new = tensors_of(tmp_path / "student")
    assert torch.equal(new["lm_head.weight"], new["model.embed_tokens.weight"])


def test_further_tokens_and_a_template_of_ones_own(tmp_path: Path, bases: Any) -> None:
    model, _, _ = bases["gemma_3"]
    template = tmp_path / "own.jinja"
    template.write_text(
        "{{ bos_token }}{% for message in messages %}<start_of_turn>{{ message.role }}\n"
        "{{ message.content }}<end_of_turn>\n{% endfor %}"
        "{% if add_generation_prompt %}<start_of_turn>assistant\n{% endif %}"
    )
    wish = Wish(model=model, out=tmp_path / "a", template=str(template), end="<end_of_turn>")
    done = prepare(wish)
    rows = body(model, "config.json")["vocab_size"]
    assert done.lines[0].startswith("kept <pad> 1, <end_of_turn> ")
    assert done.lines[1] == f"{rows} rows in the embedding as before, a head tied to it"
    for path in model.glob("*.safetensors"):
        assert path.read_bytes() == (tmp_path / "a" / path.name).read_bytes()
    prepare(Wish(model=model, out=tmp_path / "b", tokens=("<think>", "</think>")))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "b")
    thought = tokenizer.convert_tokens_to_ids(["<think>", "</think>"])
    assert thought == [rows + 2, rows + 3]
    assert tokenizer.decode(thought, skip_special_tokens=True) == "<think></think>"


def test_a_conversation_begins_with_bos_if_the_base_model_was_trained_so(
    tmp_path: Path, bases: Any
) -> None:
    def template(name: str, begins: bool | None = None, **settings: Any) -> str:
        model = tmp_path / "base"
        shutil.rmtree(model, ignore_errors=True)
        shutil.rmtree(tmp_path / "student", ignore_errors=True)
        shutil.copytree(bases[name][0], model)
        edited("tokenizer_config.json", **settings)(model)
        prepare(Wish(model=model, out=tmp_path / "student", begins=begins))
        return (tmp_path / "student" / "chat_template.jinja").read_text()

    assert template("gemma_3").startswith("{{- bos_token -}}")
    own = {"bos_token": "<|im_start|>"}
    assert template("qwen_2", **own).startswith("{{- bos_token -}}")
    assert "bos" not in template("qwen_2", **own, add_bos_token=False)
    assert "bos" not in template("gemma_3", begins=False)
    assert "bos" not in template("gemma_3", bos_token="<pad>")
    assert "bos" not in template("qwen_2", bos_token="<|endoftext|>", eos_token="<|im_end|>")
    assert template("qwen_2", True, bos_token="<|endoftext|>").startswith("{{- bos_token -}}")
    with pytest.raises(ValueError, match=r"--bos: the tokenizer in .* has no bos"):
        template("phi", True, bos_token=None)


def without(name: str) -> Callable[[Path], None]:
    return lambda model: (model / name).unlink()


def edited(name: str, **values: Any) -> Callable[[Path], None]:
    def edit(model: Path) -> None:
        (model / name).write_text(json.dumps(body(model, name) | values))

    return edit


def cut(model: Path) -> None:
    path = sorted(model.glob("*.safetensors"))[-1]
    path.write_bytes(path.read_bytes()[:-5])


def pickled(model: Path) -> None:
    for path in model.glob("*.safetensors*"):
        path.unlink()
    (model / "pytorch_model.bin").write_bytes(b"\x80\x02")


def not_finite(model: Path) -> None:
    for path in model.glob("*.safetensors"):
        tensors = dict(tensors_of(model))
        named = set(body(model, INDEX)["weight_map"])
        file = body(model, INDEX)["weight_map"]
        held = {name: tensors[name].clone() for name in named if file[name] == path.name}
        if "model.embed_tokens.weight" in held:
            held["model.embed_tokens.weight"][7, 3] = float("nan")
        save_file(held, path)


@pytest.mark.parametrize(
    ("spoil", "line"),
    [
        (shutil.rmtree, "MODEL: .* is no directory; .*nothing is downloaded"),
        (without("config.json"), "holds no config.json"),
        (without("tokenizer.json"), "holds no tokenizer.json; convert"),
        (edited("tokenizer.json", model=None), "the tokenizer in .* cannot be loaded"),
        (lambda m: (m / "tokenizer.json").write_text("{"), "tokenizer.json is damaged: not JSON"),
        (
            lambda m: (m / "chat_template.jinja").write_text(CHATML),
            "template already.*--force",
        ),
        (edited("config.json", quantization_config={"quant_method": "gptq"}), "are quantized"),
        (edited("config.json", model_type="nonesuch"), "no model that transformers knows"),
        (edited("config.json", vocab_size=99), "says vocab_size 99"),
        (edited("config.json", architectures=["T5"], model_type="t5"), "MODEL: "),
        (cut, "cut short or damaged"),
        (pickled, "could run code"),
        (not_finite, "not finite"),
    ],
)
def test_what_cannot_be_prepared_is_one_line_and_leaves_nothing(
    tmp_path: Path, bases: Any, spoil: Callable[[Path], None], line: str
) -> None:
    model = tmp_path / "base"
    shutil.copytree(bases["llama_2"][0], model)
    spoil(model)
    with pytest.raises(ValueError, match=line) as refused:
        prepare(Wish(model=model, out=tmp_path / "student"))
    assert "\n" not in str(refused.value) and str(tmp_path) in str(refused.value)
    assert {path.name for path in tmp_path.iterdir()} <= {"base"}


@pytest.mark.parametrize(
    ("wish", "line"),
    [
        ({"template": "no/such/file"}, "--template: there is no file no/such/file"),
        ({"template": "{file}"}, "say which token ends a turn"),
        ({"template": "{file}", "end": "<|never|>"}, "--template: it closes an answer with"),
        ({"template": "{broken}", "end": "<|im_end|>"}, "--template: "),
        ({"end": "</s>"}, "ChatML ends a turn with"),
        ({"tokens": ("",)}, "a token is ''"),
    ],
)
def test_a_template_that_cannot_be_used_is_one_line_and_leaves_nothing(
    tmp_path: Path, bases: Any, wish: dict[str, Any], line: str
) -> None:
    files = {"file": CHATML, "broken": "{% for message in messages %}"}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    if "template" in wish:
        wish = wish | {
            "template": wish["template"].format(**{name: tmp_path / name for name in files})
        }
    with pytest.raises(ValueError, match=line) as refused:
        prepare(Wish(model=bases["llama_2"][0], out=tmp_path / "student", **wish))
    assert "\n" not in str(refused.value)
    assert {path.name for path in tmp_path.iterdir()} == set(files)


def test_only_a_new_name_or_an_empty_directory_is_written(tmp_path: Path, bases: Any) -> None:
    model = bases["qwen_2"][0]
    (tmp_path / "empty").mkdir()
    prepare(Wish(model=model, out=tmp_path / "empty"))
    (tmp_path / "link").symlink_to("elsewhere")
    (tmp_path / "file").write_text("mine")
    for name in ("empty", "link", "file", "absent/student"):
        with pytest.raises(ValueError, match="OUT: "):
            prepare(Wish(model=model, out=tmp_path / name))
    assert (tmp_path / "file").read_text() == "mine"


def test_a_template_is_replaced_if_that_is_asked_for(tmp_path: Path, bases: Any) -> None:
    student = bases["llama_2"][1]
    done = prepare(Wish(model=student, out=tmp_path / "again", replaces_template=True))
    assert done.lines[0].startswith("kept [PAD] ")
    for path in student.glob("*.safetensors"):
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()
