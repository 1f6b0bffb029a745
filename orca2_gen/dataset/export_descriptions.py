"""An export and the manifest of its dataset -> the files that describe its rows."""

from __future__ import annotations

import pyarrow as pa

from orca2_gen.dataset.croissant import CROISSANT, export_croissant
from orca2_gen.dataset.export_card import dataset_description, export_card
from orca2_gen.dataset.export_manifest import CARD, INFO, ExportManifest, json_bytes
from orca2_gen.dataset.manifest import Manifest


def export_descriptions(
    made: ExportManifest, source: Manifest, schema: pa.Schema, tasks: dict[str, int]
) -> dict[str, bytes]:
    """Name -> contents of each file that describes an export, which lists none of them yet.

    Args:
        made: the export.
        source: the manifest of the dataset.
        schema: the columns of the export's rows.
        tasks: task -> its rows.
    """
    found = {
        CARD: export_card(made, source, schema, tasks),
        CROISSANT: json_bytes(export_croissant(made, source, schema)),
    }
    info = dataset_description(made.shape, [entry.path for entry in made.files])
    return found if info is None else {**found, INFO: json_bytes(info)}
