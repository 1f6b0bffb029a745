"""Manifests with any facts, among them names that strangers chose to break a card."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from hypothesis import strategies as st

from orca2_gen.dataset.card import CARD_VERSION
from orca2_gen.dataset.facts import (
    ChoiceFacts,
    CopiesFacts,
    HeldOutFacts,
    ModelFacts,
    RunFacts,
    SourceFacts,
    StageFacts,
)
from orca2_gen.dataset.figures import DatasetSummary, RowFigures, RowTokens, TaskTokens
from orca2_gen.dataset.manifest import Manifest, manifest_of
from orca2_gen.dataset.shards import features_of, shard_schema
from orca2_gen.run_directory.arrow_files import FileEntry

HOSTILE = (
    "| x |",
    "a\nb | c",
    "-->",
    "<script>alert(1)</script>",
    "\n---\nlicense: mit\n---\n",
    "```\n# x",
    "\\|",
    "[x](http://example.org)",
    "![x](y)",
    "*a* _b_ `c` $d$",
    "\u2028\u0085\x00\x1b[31m",
    "!!python/object:os.system",
    "{{ x }} {% y %}",
    "- x: &a [*a]",
    "",
    " ",
    "#",
    "@id",
    "http://mlcommons.org/croissant/1.0",
    "\U0001f40b \u202e \ufeff",
    "x" * 5_000,
)
texts = st.sampled_from(HOSTILE) | st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
counts = st.integers(0, 10**12)
digests = st.sampled_from(["", "0" * 64, "ab" * 32])
reasons = st.dictionaries(texts, counts, max_size=3)
json_values: Any = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 10**9) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


def many(record: Any, most: int = 3, **fields: Any) -> Any:
    return st.lists(st.builds(record, **fields), max_size=most).map(tuple)


models = many(
    ModelFacts,
    role=st.sampled_from(["student", "teacher", "judge"]),
    name=texts,
    engine=st.sampled_from(["vllm", "scripted"]),
    digest=digests,
    tokenizer=digests,
    license=texts,
    license_from=st.sampled_from(["", "config", "model card", "file"]),
    arguments=st.dictionaries(texts, json_values, max_size=2),
)
sources = many(
    SourceFacts,
    **dict.fromkeys(("task", "file", "format", "split", "license"), texts),
    language=st.sampled_from(["", "en", "de", "zh-Hant"]),
    sha256=digests,
    **dict.fromkeys(("read", "accepted", "rejected", "passed_over", "taught", "rows"), counts),
    near_duplicates=counts,
    reasons=reasons,
)
scores = st.none() | st.floats(-1, 1)
run_facts = st.builds(
    RunFacts,
    date=st.just("2026-03-01"),
    models=models,
    sources=sources,
    held_out=many(HeldOutFacts, name=texts, file=texts, sha256=digests),
    copies=st.none()
    | st.builds(
        CopiesFacts,
        duplicates=st.booleans(),
        contamination=st.booleans(),
        near=st.sampled_from(["", "remove"]),
    ),
    sampling=st.dictionaries(texts | st.just("verify"), json_values, max_size=4),
    stages=many(
        StageFacts,
        stage=texts,
        **dict.fromkeys(("input", "accepted", "rejected", "refused"), counts),
        reasons=reasons,
    ),
    choices=many(
        ChoiceFacts,
        60,
        **dict.fromkeys(("group", "strategy", "reason"), texts),
        score=scores,
        margin=scores,
        num_scored_problems=counts,
        num_problems=counts,
        fragile=st.booleans(),
    ),
    settings=st.dictionaries(texts, json_values, max_size=4),
    versions=st.lists(st.lists(st.tuples(texts, texts), max_size=3).map(tuple), max_size=2).map(
        tuple
    ),
)


def manifest_with(
    facts: RunFacts | None, name: str = "run", tasks: dict[str, int] | None = None
) -> Manifest:
    """A manifest of some rows with these facts, as it is read."""
    tasks = {"t": 7} if tasks is None else tasks
    made = Manifest(
        version=1,
        prompts="erased",
        tokenizer_digest="d",
        files=(FileEntry(path="data-00000-of-00001.arrow", rows=7, bytes=9, sha256="0" * 64),),
        summary=DatasetSummary(
            directory="dataset",
            rows=sum(tasks.values()),
            shards=1,
            input_tokens=70_000,
            trained_tokens=1_234,
            rows_by_task=tasks,
            prompts="erased",
        ),
        figures=RowFigures(
            rows_by_strategy=dict(tasks),
            tokens_by_task={task: TaskTokens(input=1_000, trained=9) for task in tasks},
            row_tokens=RowTokens(min=1, median=2, p95=3, max=4),
            columns=tuple(features_of(shard_schema(has_reasoning=True)).items()),
        ),
        facts=facts,
        card_version=CARD_VERSION,
        name=name,
    )
    return manifest_of(json.dumps(dataclasses.asdict(made)).encode())


manifests = st.builds(
    manifest_with,
    st.none() | run_facts,
    texts,
    st.dictionaries(texts, st.integers(1, 10**9), max_size=5),
)
