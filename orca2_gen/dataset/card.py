"""The figures of a dataset -> its card, README.md."""

from __future__ import annotations

from orca2_gen.dataset.manifest import DatasetSummary
from orca2_gen.dataset.proof import ErasureProof
from orca2_gen.dataset.verdict import verdict_of


def card_of(summary: DatasetSummary, name: str, proof: ErasureProof | None = None) -> bytes:
    """The card of a dataset, README.md."""
    from huggingface_hub import DatasetCard, DatasetCardData

    rows = "\n".join(f"| {task} | {count} |" for task, count in summary.rows_by_task.items())
    about = {
        "erased": "Every row's system message is the cautious one; manifest.json holds the proof.",
        "instruction_kept": "Rows keep their strategy's instruction: this is an ablation.",
    }[summary.prompts]
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
