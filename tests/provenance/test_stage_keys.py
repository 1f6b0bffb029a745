from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

import orca2_gen
from orca2_gen.config.arguments import rooms
from orca2_gen.config.load import load_config
from orca2_gen.config.scoring import ScoringConfig
from orca2_gen.provenance import stage_keys
from orca2_gen.provenance.inputs import read_inputs
from orca2_gen.provenance.stage_keys import PREVIOUS, stage_determinants
from orca2_gen.selection.blocks import Group
from orca2_gen.strategies import load_strategies
from tests.conftest import SHORT, Write, keys_of, rule_of


def file_keys(file: Path, *overrides: str) -> dict[str, str]:
    return keys_of(load_config(file, overrides))


def changed_stages(file: Path, *overrides: str) -> set[str]:
    before, after = file_keys(file), file_keys(file, *overrides)
    return {stage for stage in before if before[stage] != after[stage]}


STRATEGIES_FILE = Path(orca2_gen.__file__).with_name("strategies.toml")
ORDER = ["problems", "scores", "judgements", "selections", "rationales", "examples"]
ALL = set(ORDER)


@pytest.mark.parametrize(
    ("override", "first"),
    [
        ("rows_per_unit=9", "problems"),
        ("tasks.0.split=validation", "problems"),
        ("student.max_model_len=2048", "problems"),
        ("selection.select_by=category", "problems"),
        ("scoring.retry_max_tokens=600", "problems"),
        ("scoring.answer_max_tokens=16", "problems"),
        ("scoring.ask_again=none", "problems"),
        ("selection.method=full_grid", "scores"),
        ("selection.scored_problems=11", "scores"),
        ("selection.block_size=5", "scores"),
        ("student.accuracy.step_by_step=0.1", "scores"),
        ("selection.policy=random", "scores"),
        ("selection.policy=teacher_best", "scores"),
        ("selection.none_solved=step_by_step", "selections"),
        ("rationales.temperature=0.1", "rationales"),
        ("rationales.verify=false", "rationales"),
        ("teacher.accuracy.step_by_step=0.1", "rationales"),
        ("erasure.prompts=instruction_kept", "examples"),
    ],
)
def test_a_change_changes_the_first_stage_it_touches_and_all_after_it(
    write_config: Write, override: str, first: str
) -> None:
    found = changed_stages(write_config(), override) & ALL
    assert found == set(ORDER[ORDER.index(first) :])


@pytest.mark.parametrize(
    ("override", "first"),
    [
        ("judge.max_model_len=3000", "problems"),  # it decides which problems can be judged
        ("judging.max_tokens=100", "problems"),
        ("judge.accuracy.step_by_step=0.1", "judgements"),
        ("judge.replicas=2", None),
    ],
)
def test_a_judge_is_in_the_keys_where_a_task_is_open_and_nowhere_else(
    write_config: Write, chatml_dir: Path, override: str, first: str | None
) -> None:
    judge = f'[judge]\nengine = "scripted"\ntokenizer = "{chatml_dir}"\n'
    file = write_config(sections=judge)
    assert changed_stages(file, override) == set()
    is_open = "tasks.0.answer_type=open"
    before, after = file_keys(file, is_open), file_keys(file, is_open, override)
    changed = {stage for stage in before if before[stage] != after[stage]} & ALL
    assert changed == (set(ORDER[ORDER.index(first) :]) if first else set())


def test_a_group_that_is_judged_is_no_race(write_config: Write) -> None:
    config = load_config(write_config(), ["selection.method=race"])
    group = Group(name="sums", num_problems=9, num_groups=2)
    assert rule_of(config).of(group) == rule_of(config)
    assert rule_of(config).is_race
    judged = dataclasses.replace(group, is_judged=True)
    full_grid = load_config(write_config(), ["selection.method=full_grid"])
    assert rule_of(config).of(judged) == rule_of(full_grid)


@pytest.mark.parametrize(
    "override",
    [
        "student.replicas=3",
        "student.max_num_seqs=7",
        "teacher.replicas=2",
        "run_dir=/elsewhere",
        "dataset.examples_per_shard=7",
        "training.seq_len=64",
        "evaluation.max_tokens=9",
        "tasks.0.license=mit",
        "tasks.0.language=de",
        "student.license=mit",
        "teacher.license=mit",
    ],
)
def test_how_and_where_a_run_happens_is_in_no_key_of_its_dataset(
    write_config: Write, override: str
) -> None:
    assert changed_stages(write_config(), override) & ALL == set()


def test_another_place_of_the_same_files_changes_no_key(
    write_config: Write, chatml_dir: Path, tmp_path: Path
) -> None:
    model = shutil.copytree(chatml_dir, tmp_path / "model")
    task = shutil.copy(tmp_path / "sums.jsonl", tmp_path / "moved.jsonl") if write_config() else ""
    sets = [f"student.tokenizer={model}", f"teacher.tokenizer={model}", f"tasks.0.path={task}"]
    assert changed_stages(write_config(), *sets) == set()


def test_what_a_full_grid_is_looked_at_for_is_not_in_the_keys_of_its_scores(
    write_config: Write,
) -> None:
    grid, file = "selection.method=full_grid", write_config()
    before, after = file_keys(file, grid), file_keys(file, grid, "selection.indifference=0.1")
    assert next(stage for stage in before if before[stage] != after[stage]) == "selections"


@pytest.mark.parametrize(
    ("override", "first"),
    [
        ("selection.delta=0.2", "scores"),
        ("selection.open_requests=99", "scores"),
        ("selection.indifference=0.1", "scores"),
    ],
)
def test_which_cells_a_race_scores_depends_on_how_it_is_run(
    write_config: Write, override: str, first: str
) -> None:
    file = write_config()
    before, after = file_keys(file), file_keys(file, override)
    assert next(stage for stage in before if before[stage] != after[stage]) == first


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('name = "extract_generate"', 'name = "extract_generate"\nfurther_calls = ["Now."]'),
        (
            "[[strategy]]",
            '[[instruction]]\nstrategy = "direct_answer"\ncategory = "logic"\n'
            'instruction = "Say it."\n[[strategy]]',
        ),
    ],
)
def test_every_text_that_may_be_said_is_in_the_keys(
    write_config: Write, tmp_path: Path, old: str, new: str
) -> None:
    own = tmp_path / "own.toml"
    text = STRATEGIES_FILE.read_text()
    file = write_config()
    keys = []
    for each in (text, text.replace(old, new, 1)):
        own.write_text(each)
        keys.append(file_keys(file, f"strategies={own}"))
    assert {stage for stage in keys[0] if keys[0][stage] != keys[1][stage]} >= ALL


def test_a_changed_task_file_changes_every_key(write_config: Write, tmp_path: Path) -> None:
    file = write_config()
    before = file_keys(file)
    with open(tmp_path / "sums.jsonl", "a", encoding="utf-8") as task:
        task.write("\n")
    after = file_keys(file)
    assert {stage for stage in before if before[stage] != after[stage]} == ALL


def test_few_shot_is_in_the_keys_and_with_it_what_the_evaluation_asks(
    write_config: Write, tmp_path: Path
) -> None:
    held_out = tmp_path / "held_out.jsonl"
    held_out.write_text(json.dumps({"question": "What is 1 + 1?", "answer": "2"}) + "\n")
    sections = "[[evaluation.tasks]]\nname = 'e'\nformat = 'jsonl'\npath = 'held_out.jsonl'\n"
    file = write_config(sections=sections)
    few_shot = "tasks.0.few_shot=[3, 5]"
    assert changed_stages(file, few_shot) == ALL
    off = "decontaminate.contamination=false"
    on, zero, few = file_keys(file), file_keys(file, off), file_keys(file, off, few_shot)
    few_shot_alone = (off, few_shot)
    assert few["problems"] != file_keys(file, off, "tasks.0.few_shot=[2, 5]")["problems"]
    renamed = file_keys(file, *few_shot_alone, "evaluation.tasks.0.name=f")
    assert {stage for stage in few if renamed[stage] != few[stage]} == {"evaluation_problems"}
    held_out.write_text(json.dumps({"question": "What is 1 + 2?", "answer": "3"}) + "\n")
    changed = {stage for stage, key in file_keys(file, off).items() if key != zero[stage]}
    assert changed == {"evaluation_problems"}
    for before, sets in ((few, few_shot_alone), (on, ())):
        changed = {stage for stage, key in file_keys(file, *sets).items() if key != before[stage]}
        assert changed == {"evaluation_problems"} | ALL


def test_a_run_without_forced_endings_has_the_keys_of_one_that_knows_none(
    write_config: Write,
) -> None:
    config = load_config(write_config(), ["scoring.ask_again=none", "scoring.answer_max_tokens=9"])
    older = config.model_copy(update={"scoring": ScoringConfig()})
    assert keys_of(config) == keys_of(older)
    assert "ask_again" not in json.dumps(stage_determinants(config, read_inputs(config)))


def test_how_an_ending_is_asked_for_is_in_the_keys_of_runs_that_ask_for_it(
    write_config: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, silent = write_config(), "scoring.ask_again=none"
    before, without = file_keys(file), file_keys(file, silent)
    monkeypatch.setattr(stage_keys, "ENDINGS_VERSION", 99)
    after = file_keys(file)
    assert {stage for stage in ALL if before[stage] != after[stage]} == ALL - {"problems"}
    assert file_keys(file, silent) == without


def test_every_stage_has_its_own_key(write_config: Write) -> None:
    keys = file_keys(write_config())
    assert set(keys) == set(PREVIOUS) and len(set(keys.values())) == len(keys)


def test_the_rule_and_the_rooms_are_the_configs(write_config: Write) -> None:
    config = load_config(write_config(), ["scoring.max_tokens=2000", "teacher.max_model_len=8192"])
    student, teacher = rooms(config, load_strategies(config.strategies))
    assert (student.judged_tokens, teacher.judged_tokens) == (None, None)
    # A second attempt, with twice as much, must fit too.
    assert (student.max_model_len, student.max_tokens) == (4096, 4000)
    assert (teacher.max_model_len, teacher.max_tokens) == (8192, 4000)
    once = load_config(write_config(), ["scoring.max_tokens=90", "scoring.retry_max_tokens=90"])
    assert rooms(once, load_strategies(once.strategies))[0].max_tokens == 90
    rule = rule_of(config)
    assert (rule.scored_problems, rule.block_size, rule.needs_scores) == (12, 4, True)


def test_a_judge_has_a_room_with_a_place_for_the_longest_answer(
    write_config: Write, chatml_dir: Path, tmp_path: Path
) -> None:
    own = tmp_path / "own.toml"
    own.write_text(
        'cautious_message = "Be careful."\nanswer_sentence = true\n[[strategy]]\n'
        'name = "direct_answer"\ninstruction = "Answer."\nfurther_calls = ["Check.", "Answer."]\n'
    )
    judge = f'[judge]\nengine = "scripted"\ntokenizer = "{chatml_dir}"\nmax_model_len = 9000\n'
    sets = ["tasks.0.answer_type=open", "scoring.max_tokens=30", "scoring.retry_max_tokens=70"]
    sets += ["student.accuracy={}", "teacher.accuracy={}"]  # of strategies that are not there
    config = load_config(write_config(sections=judge), [*sets, f"strategies={own}"])
    *_, room = rooms(config, load_strategies(config.strategies))
    assert (room.role, room.max_model_len, room.max_tokens) == ("judge", 9000, 256)
    assert room.judged_tokens == 3 * 70


def test_what_determines_a_vllm_engines_rows_is_what_it_was_in_older_runs(
    write_config: Write,
) -> None:
    """A key that is always there would refuse every older run: see CONTRIBUTING."""
    models = STRATEGIES_FILE.with_name("microworld")
    file = write_config()
    body = file.read_text()
    start, end = body.index("[student]"), body.index("[selection]")
    engines = (
        f'[student]\nmodel = "{models / "student"}"\n[teacher]\nmodel = "{models / "teacher"}"\n'
    )
    file.write_text(f"{body[:start]}{engines}{body[end:]}")
    config = load_config(file, SHORT)
    determinants = stage_determinants(config, read_inputs(config))
    for stage in ("scores", "rationales"):
        engine = determinants[stage]["engine"]
        assert len(engine.pop("model")) == len(engine.pop("tokenizer")) == 64
        assert engine == {"dtype": "bfloat16", "quantization": None, "kv_cache_dtype": "auto"}


def test_engine_arguments_are_in_the_keys_but_those_of_speed(
    write_config: Write, tmp_path: Path
) -> None:
    models = STRATEGIES_FILE.with_name("microworld")
    drafts = [Path(shutil.copytree(models / "student", tmp_path / name)) for name in ("a", "b")]
    file, student = write_config(), f"student={{ model = '{models / 'student'}'"

    def keys(arguments: str) -> dict[str, str]:
        return file_keys(file, f"{student}, engine_arguments = {{ {arguments} }} }}", *SHORT)

    none = keys("")
    assert keys("async_scheduling = true, data_parallel_size = 2, cpu_offload_gb = 4") == none
    overrides = keys("hf_overrides = { rope_theta = 2.0 }")
    draft = "speculative_config = {{ model = '{}', num_speculative_tokens = 2 }}"
    drafted = keys(draft.format(drafts[0]))
    for changed in (overrides, drafted):
        assert {stage for stage in none if changed[stage] != none[stage]} == ALL - {"problems"}
    assert keys(draft.format(drafts[1])) == drafted != overrides
    weights = drafts[1] / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\1")
    assert keys(draft.format(drafts[1]))["scores"] != drafted["scores"]
