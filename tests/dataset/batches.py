"""Examples as batches of a shard, for tests."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from orca2_gen.chat import Chat
from orca2_gen.dataset.proof import ErasureProof, prove
from orca2_gen.dataset.shards import shard_schema, to_shard
from orca2_gen.records import Example
from orca2_gen.run_directory.record_tables import to_table
from orca2_gen.strategies import Strategies


def batch_of(examples: Sequence[Example]) -> pa.RecordBatch:
    """The examples as a batch of a shard."""
    return to_shard(to_table(examples, Example), shard_schema(has_reasoning=True))


def proof_over(examples: Sequence[Example], *, chat: Chat, strategies: Strategies) -> ErasureProof:
    return prove([batch_of(examples)], chat=chat, strategies=strategies)
