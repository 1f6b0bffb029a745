from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca2_gen.config.argument_checks import LOAD_FORMATS, check_arguments
from orca2_gen.config.engine import VLLMEngineConfig
from orca2_gen.config.engine_arguments import MOST_DEPTH, REFUSED, SPEED
from orca2_gen.config.load import load_config, read_config, resolved
from orca2_gen.config.secrecy import is_secret_name
from orca2_gen.config.vllm_fields import installed_fields
from tests.conftest import Write

OWN = VLLMEngineConfig.model_fields
FIELDS = installed_fields()
assert FIELDS is not None
VLLM = Path(__file__).parents[2] / ".venv"
FREE = sorted(FIELDS.arguments.keys() - REFUSED.keys() - OWN.keys() - {"load_format"})
"""Arguments of the installed vLLM that a config may set."""
TABLES = ("hf_overrides", "speculative_config", "compilation_config", "attention_config")
STUDENT = Path(__file__).parents[2] / "orca2_gen" / "microworld" / "student"

CODE = {
    "worker_cls": "evil.Worker",
    "worker_extension_cls": "evil.Extension",
    "scheduler_cls": "evil.Scheduler",
    "logits_processors": ["evil:Processor"],
    "io_processor_plugin": "evil",
    "reasoning_parser_plugin": "evil.py",
    "trust_remote_code": True,
    "model_class_overrides": {"LlamaForCausalLM": "evil:Llama"},
    "additional_config": {"plugin": "evil"},
    "ec_manager_config": {"encoder_cache_manager_cls": "evil.Cache"},
    "kv_transfer_config": {"kv_connector": "Evil", "kv_connector_module_path": "evil"},
    "ec_transfer_config": {"ec_connector": "Evil", "ec_connector_module_path": "evil"},
    "weight_transfer_config": {"backend": "ipc"},
    "log_config_file": "logging.json",
    "logging_config": {"pylogging_config_file": "logging.json"},
    "profiler_config": {"profiler": "torch", "torch_profiler_dir": "traces"},
    "hf_config_path": "evil",
    "tokenizer_mode": "evil",
}


@pytest.mark.parametrize("name", CODE)
def test_an_argument_that_runs_other_code_than_vllms_is_refused_with_its_name(name: str) -> None:
    with pytest.raises(ValueError, match=rf"^{name} may not be set \(.*; remove it$"):
        check_arguments({name: CODE[name]}, OWN)


BELOW = [
    ("compilation_config", {"backend": "evil.compile"}),
    ("compilation_config", {"inductor_passes": {"post_grad_custom_post_pass": "evil.run"}}),
    ("compilation_config", {"inductor_compile_config": {"cpp.cxx": "evil"}}),
    ("compilation_config", {"backend": "evil:compile"}),
    ("compilation_config", {"cache_dir": "compiled"}),
    ("compilation_config", {"debug_dump_path": "dump"}),
    ("speculative_config", {"method": "custom_class", "model": "evil.Proposer"}),
    ("speculative_config", {"model": "evil.Proposer"}),
    ("speculative_config", {"draft_load_config": {"load_format": "pt"}}),
    ("speculative_config", {"draft_load_config": {"load_format": ["pt"]}}),
    ("speculative_config", {"draft_model_config": {"hf_config": {}}}),
    ("speculative_config", {"trust_remote_code": True}),
    ("speculative_config", {"code_revision": "main"}),
    ("structured_outputs_config", {"reasoning_parser_plugin": "evil.py"}),
    ("hf_overrides", {"auto_map": {"AutoModel": "evil.Model"}}),
    ("hf_overrides", {"text_config": {"auto_map": {"AutoConfig": "evil--x"}}}),
    ("hf_overrides", {"custom_pipelines": {}}),
    ("hf_overrides", {"activation_fn": "torch.hub.load"}),
    ("mm_processor_kwargs", {"trust-remote-code": True}),
    ("media_io_kwargs", {"video": {"Trust_Remote_Code": True}}),
    ("model_loader_extra_config", {"tensorizer_uri": "s3://bucket/model"}),
    ("speculative_config", {"model": "https://example.org/model"}),
    ("custom_histogram_buckets", {"endpoint": "example.org"}),
    ("hf_overrides", {"hf_token": True}),
    ("hf_overrides", {"api_key": 1234567}),
    ("hf_overrides", "evil.override"),
    ("speculative_config", "evil.Proposer"),
]


@pytest.mark.parametrize(("name", "table"), BELOW)
def test_what_is_refused_at_the_top_is_refused_in_tables_too(name: str, table: Any) -> None:
    with pytest.raises(ValueError, match=rf"^{name}"):
        check_arguments({name: table}, OWN)


@given(
    names=st.lists(st.sampled_from(["a", "text_config", "2"]), max_size=(MOST_DEPTH - 3) // 2),
    evil=st.sampled_from(sorted(name for name in CODE if re.search("cls|plugin|trust|proc", name))),
    in_list=st.booleans(),
)
def test_no_depth_hides_a_key_that_runs_code(names: list[str], evil: str, in_list: bool) -> None:
    value: Any = {evil: "evil.Code"}
    for name in names:
        value = {name: [value] if in_list and name == "a" else value}
    with pytest.raises(ValueError, match=evil):
        check_arguments({"hf_overrides": {"x": value}}, OWN)


def test_every_field_of_vllms_configs_whose_type_is_code_is_refused_by_its_name() -> None:
    assert FIELDS is not None
    for config, fields in FIELDS.configs.items():
        for name, annotation in fields.items():
            named = {node.id for node in ast.walk(annotation) if isinstance(node, ast.Name)}
            is_code = named & {"type", "Callable"} or re.search(
                r"(^|_)(cls|class|hook)$|plugin|module(_|$)|auto_map|trust_remote", name
            )
            if is_code:
                with pytest.raises(ValueError, match=name):
                    check_arguments({"hf_overrides": {config: {name: "x"}}}, OWN)


def test_every_argument_of_the_installed_vllm_is_classified_once() -> None:
    assert FIELDS is not None
    ours, refused, speed = set(OWN) & set(FIELDS.arguments), set(REFUSED), set(SPEED)
    assert not (ours & refused or ours & speed or refused & speed)
    assert refused | speed <= set(FIELDS.arguments)
    # The rest determine rows; a table may hold them, so none may fail by its name alone.
    for name in sorted(set(FIELDS.arguments) - ours - refused):
        assert not is_secret_name(name)
        check_arguments({name: 1} if name not in (*TABLES, "load_format") else {}, OWN)


@pytest.mark.parametrize("name", sorted(set(OWN) - {"engine_arguments"}))
def test_a_key_of_the_section_is_refused_with_the_place_where_it_is_set(name: str) -> None:
    for spelled in (name, name.replace("_", "-")):
        with pytest.raises(ValueError, match=rf"^{spelled} is a key of the section itself; set it"):
            check_arguments({spelled: 1}, OWN)


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_no_refused_argument_can_be_set_to_anything(name: str) -> None:
    for value in (True, False, None, 1, "x", {}, []):
        with pytest.raises(ValueError, match=name):
            check_arguments({name: value}, OWN)


def test_a_load_format_reads_safetensors_only() -> None:
    source = VLLM / "lib"
    [file] = source.glob("python3*/site-packages/vllm/model_executor/model_loader/__init__.py")
    formats = next(
        {word.value for word in ast.walk(node.value) if isinstance(word, ast.Constant)}
        for node in ast.parse(file.read_text()).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "LoadFormats"
    )
    refused = {"auto", "hf", "pt", "npcache", "dummy", "tensorizer", "modelexpress", "ipc_cache"}
    assert {*LOAD_FORMATS, *refused} == formats
    for each in LOAD_FORMATS:
        check_arguments({"load_format": each}, OWN)
    for each in (*refused, "PT", "", "bitsandbytes", "gguf", "evil"):
        with pytest.raises(ValueError, match=r"^load_format is .*expected one .* safetensors only"):
            check_arguments({"load_format": each}, OWN)


@pytest.mark.parametrize(
    ("address", "is_fine"),
    [
        ("http://localhost:4317", True),
        ("http://127.0.0.1:4317", True),
        ("grpc://[::1]:4317", True),
        ("localhost:4317", True),
        ("http://localhost.example.org:4317", False),
        ("http://127.0.0.1@example.org", False),
        ("http://10.0.0.1:4317", False),
        ("example.org:4317", False),
        ("http://[", False),
        ("", False),
    ],
)
def test_traces_go_to_the_loopback_address_only(address: str, is_fine: bool) -> None:
    arguments = {"otlp_traces_endpoint": address}
    if is_fine:
        check_arguments(arguments, OWN)
        return
    with pytest.raises(ValueError, match=r"^otlp_traces_endpoint is an address"):
        check_arguments(arguments, OWN)


USEFUL: dict[str, Any] = {
    "speculative_config": {"method": "ngram", "num_speculative_tokens": 4},
    "enable_expert_parallel": True,
    "data_parallel_size": 2,
    "load_format": "safetensors",
    "hf_overrides": {
        "rope_scaling": {"rope_type": "yarn", "factor": 4.0},
        "architectures": ["LlamaForCausalLM"],
        "num_experts_per_token": 2,
    },
    "cpu_offload_gb": 4,
    "async_scheduling": True,
    "compilation_config": {
        "mode": 3,
        "backend": "inductor",
        "pass_config": {"fuse_norm_quant": False},
        "custom_ops": ["+rms_norm"],
        "splitting_ops": ["vllm.unified_attention"],
        "use_inductor_graph_partition": False,
    },
    "kv_cache_dtype_skip_layers": ["model.layers.0"],
    "quantization_config": {"ignore": ["model.layers.0.mlp"]},
    "cpu_offload_params": ["model.layers"],
    "attention_backend": "FLASH_ATTN",
    "override_generation_config": {"eos_token_id": [1, 2]},
    "eplb_config": {"num_redundant_experts": 2},
}


@pytest.mark.parametrize("name", USEFUL)
def test_arguments_that_users_need_are_let_through_as_they_are(
    write_config: Write, name: str
) -> None:
    arguments = {name: USEFUL[name]}
    config = VLLMEngineConfig(model=str(STUDENT), engine_arguments=arguments)
    assert config.engine_arguments == arguments


PLAIN = st.recursive(
    st.booleans()
    | st.integers(-(2**63) + 1, 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["alpha", "beta", "gamma"]), inner, max_size=3)
    ),
    max_leaves=10,
)


@given(name=st.sampled_from(FREE), value=PLAIN)
def test_plain_values_of_any_other_argument_are_let_through(name: str, value: Any) -> None:
    if name in ("data_parallel_size", "prefill_context_parallel_size", *TABLES):
        return
    check_arguments({name: value}, OWN)


@pytest.mark.parametrize("value", ["inf", "nan", "2026-01-01", "07:30:00", "9" * 25, "9" * 5000])
def test_a_value_that_json_has_not_is_refused(write_config: Write, value: str) -> None:
    file = write_config(sections=f'[judge]\nmodel = "{STUDENT}"\n')
    sets = [f"judge.engine_arguments.hf_overrides.x={value}"]
    with pytest.raises(ValueError, match=r"judge\.engine_arguments.*(expected|too many digits)"):
        read_config(file, sets)


def test_tables_of_any_size_end_in_one_line() -> None:
    deep: Any = 1
    for _ in range(100_000):
        deep = {"a": deep}
    wide = {"hf_overrides": {"a": [0] * 100_000}}
    cases = {"nested in more than": {"hf_overrides": deep}, "more than 10000": wide}
    cases["characters"] = {"hf_overrides": {"a": "x" * 10_001}}
    for words, arguments in cases.items():
        with pytest.raises(ValueError, match=words) as found:
            check_arguments(arguments, OWN)
        assert len(str(found.value)) < 300 and "\n" not in str(found.value)
    while isinstance(deep, dict):  # or the end of the test would free it recursively
        deep = deep.pop("a")


@pytest.mark.parametrize("size", [0, -1, 1.5, True, "2"])
def test_a_number_of_ranks_is_a_whole_number(size: Any) -> None:
    with pytest.raises(ValueError, match=r"^data_parallel_size is .*: expected a whole number"):
        check_arguments({"data_parallel_size": size}, OWN)


@pytest.mark.parametrize("role", ["student", "teacher", "judge"])
def test_a_refusal_names_role_and_key(write_config: Write, role: str) -> None:
    model = f'[{role}]\nmodel = "{STUDENT}"\n'
    file = write_config(sections=model if role == "judge" else "")
    sets = [f"{role}.engine_arguments.worker_cls='evil.Worker'"]
    if role != "judge":
        sets += [f"{role}={{model = '{STUDENT}', engine_arguments = {{worker_cls = 'e.W'}}}}"]
    with pytest.raises(ValueError, match=rf": {role}\.engine_arguments: worker_cls may not be set"):
        load_config(file, sets)


def test_a_secret_in_an_argument_is_refused_and_not_shown(write_config: Write) -> None:
    file = write_config(sections=f'[judge]\nmodel = "{STUDENT}"\n')
    for key, value in (("hf_token", "hunter2"), ("hf_overrides.api_key", "hunter2")):
        with pytest.raises(ValueError, match="may not be set") as found:
            load_config(file, [f"judge.engine_arguments.{key}={value}"])
        assert value not in str(found.value)
    token = f"hf_{'a1' * 12}"
    with pytest.raises(ValueError, match="reads like a") as found:
        load_config(file, [f"judge.engine_arguments.hf_overrides.x={token}"])
    assert token not in str(found.value)


def test_a_recorded_config_is_read_as_it_was_written(write_config: Write, tmp_path: Path) -> None:
    file = write_config(sections=f'[judge]\nmodel = "{STUDENT}"\n')
    config = load_config(file, ["judge.engine_arguments.cpu_offload_gb=4"])
    recorded = tmp_path / "config.json"
    recorded.write_text(json.dumps({"config": resolved(config)}))
    assert read_config(recorded).judge == config.judge


@pytest.mark.parametrize("role", ["student", "teacher", "judge"])
@pytest.mark.parametrize("name", ["data_parallel_size", "speculative_config", "cpu_offload_gb"])
def test_an_argument_of_vllm_among_our_own_keys_is_told_its_place(
    write_config: Write, role: str, name: str
) -> None:
    file = write_config(sections=f'[judge]\nmodel = "{STUDENT}"\n')
    sets = [] if role == "judge" else [f"{role}={{ model = '{STUDENT}' }}"]
    with pytest.raises(ValueError) as found:
        read_config(file, [*sets, f"{role}.{name}=2"])
    assert str(found.value).endswith(
        f"unknown key '{role}.{name}'; it is an argument of vLLM: set it in "
        f"[{role}.engine_arguments]"
    )
    with pytest.raises(ValueError, match=rf"'{role}\.worker_cls' may not be set \(it runs code"):
        read_config(file, [*sets, f"{role}.worker_cls=a.B"])
