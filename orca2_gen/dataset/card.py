"""A manifest -> the card of its dataset, README.md: a Hugging Face dataset card.

Everything in it stands in the manifest, so `verify` makes it again. What strangers wrote, names of
tasks, files and licenses, is escaped in Markdown and quoted in YAML.
"""

from __future__ import annotations

from typing import Any

from orca2_gen.dataset.card_sections import (
    choices,
    copies,
    how_to_make,
    licenses,
    models,
    rejections,
    sampling,
    sources,
    uses,
)
from orca2_gen.dataset.figures import DatasetSummary, RowFigures
from orca2_gen.dataset.licenses import OTHER, language_of, licensing
from orca2_gen.dataset.manifest import Manifest
from orca2_gen.dataset.markdown import escaped, one_line, table
from orca2_gen.dataset.proof import ErasureProof
from orca2_gen.dataset.verdict import verdict_of

CARD_VERSION = 1
"""Raise it with every change that can alter a card or croissant.json of the same manifest."""
TAGS = ["orca2-gen", "reasoning", "distillation", "synthetic"]
MOST_TASKS = 100
_SIZES = [
    *((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (10**6, "100K<n<1M")),
    *((10**7, "1M<n<10M"), (10**8, "10M<n<100M"), (10**9, "100M<n<1B"), (10**10, "1B<n<10B")),
]
PROMPTS = {
    "erased": "Every row's system message is the cautious one; manifest.json holds the proof.",
    "instruction_kept": "Rows keep their strategy's instruction: this is an ablation.",
}


def card_of(manifest: Manifest) -> bytes:
    """The card of a dataset, README.md, by a manifest with summary and figures."""
    from huggingface_hub import DatasetCard

    summary, figures = manifest.summary, manifest.figures
    assert summary is not None and figures is not None
    about = PROMPTS.get(manifest.prompts, "What the prompts are is not known.")
    has_several = summary.problems not in (None, summary.rows)
    problems = f" and {summary.problems:,} problems" if has_several else ""
    parts = [
        f"# {escaped(manifest.name) or 'Rows'}\n\nMade by orca2-gen. {about}\n",
        f"{summary.rows:,} rows of {len(summary.rows_by_task):,} tasks{problems}; "
        f"{summary.trained_tokens:,} trained tokens of {summary.input_tokens:,}.\n",
        f"**Proof of erasure**: {verdict(manifest)}\n",
        *rows_of(summary, figures),
    ]
    if manifest.facts is not None:
        parts += [
            models(manifest.facts),
            sources(manifest.facts),
            sampling(manifest.facts),
            choices(manifest.facts),
            rejections(manifest.facts),
            copies(manifest.facts),
            licenses(manifest.facts),
        ]
    parts.append(uses(manifest))
    if manifest.facts is not None:
        parts.append(how_to_make(manifest.facts))
    front = front_matter(manifest, one_line(manifest.name), summary.rows)
    content = f"---\n{front.to_yaml()}\n---\n\n" + "\n".join(parts)
    return str(DatasetCard(content)).encode()


def front_matter(manifest: Manifest, name: str, num_rows: int, **more: Any) -> Any:
    """The DatasetCardData of a dataset, or of an export of it, with more of its own."""
    from huggingface_hub import DatasetCardData

    if manifest.facts is not None:
        found = licensing(manifest.facts)
        more["license"] = found.license
        if found.license == OTHER:
            more["license_details"] = "; ".join(found.stated)
        if languages := language_of(manifest.facts):
            more["language"] = languages
    return DatasetCardData(pretty_name=name, tags=TAGS, size_categories=[size_of(num_rows)], **more)


def size_of(num_rows: int) -> str:
    """The size category of Hugging Face."""
    return next((name for most, name in _SIZES if num_rows < most), "n>1T")


def verdict(manifest: Manifest) -> str:
    """The verdict of the proof, in one line."""
    if manifest.proof is None:
        return "none, since nothing was erased."
    return verdict_of(manifest.proof)


def rows_of(summary: DatasetSummary, figures: RowFigures) -> list[str]:
    """The section about the rows, in parts."""
    by_task = [
        (task, rows, tokens.input, tokens.trained)
        for task, rows in summary.rows_by_task.items()
        if (tokens := figures.tokens_by_task.get(task)) is not None
    ]
    by_strategy = sorted(figures.rows_by_strategy.items(), key=lambda item: (-item[1], item[0]))
    lengths = figures.row_tokens
    return [
        "## Rows\n\nBy task, with their tokens and those that have a loss:\n",
        table(("task", "rows #", "tokens #", "trained #"), by_task, MOST_TASKS, "tasks"),
        "By the strategy that the teacher was told:\n",
        table(("strategy", "rows #"), by_strategy, MOST_TASKS, "strategies"),
        f"Tokens of a row: {lengths.min:,} at least, {lengths.median:,} in the median, "
        f"{lengths.p95:,} at the 95th percentile, {lengths.max:,} at most.\n",
    ]


def older_card_of(summary: DatasetSummary, name: str, proof: ErasureProof | None = None) -> bytes:
    """The card that older versions made of a manifest."""
    from huggingface_hub import DatasetCard, DatasetCardData

    rows = "\n".join(f"| {task} | {count} |" for task, count in summary.rows_by_task.items())
    about = PROMPTS[summary.prompts]
    if proof is not None and not proof.is_older:  # which had a card without a verdict
        about += f" {verdict_of(proof)}"
    card = DatasetCardData(
        language="en", pretty_name=name, tags=["orca2-gen", "reasoning", "distillation"]
    )
    content = (
        f"---\n{card.to_yaml()}\n---\n\n# {name}\n\nMade by orca2-gen. {about}\n\n"
        f"{summary.counted}, {summary.trained_tokens} trained tokens of "
        f"{summary.input_tokens}.\n\n"
        f"| task | rows |\n|---|---|\n{rows}\n"
    )
    return str(DatasetCard(content)).encode()
