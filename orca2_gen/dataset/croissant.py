"""A manifest -> croissant.json: the dataset for machines, as JSON-LD of Croissant 1.0.

The fields of responsible AI (RAI) say how the rows were made and what they are not good for. The
addresses in it are names of things: nobody fetches them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from orca2_gen.dataset.card import TAGS, verdict
from orca2_gen.dataset.card_sections import CONTAMINATED, DUPLICATE, limits, use_cases
from orca2_gen.dataset.export_manifest import ExportManifest
from orca2_gen.dataset.facts import RunFacts
from orca2_gen.dataset.licenses import NOT_STATED, OTHER, language_of, licensing
from orca2_gen.dataset.manifest import Manifest
from orca2_gen.dataset.markdown import one_line
from orca2_gen.dataset.shards import features_of
from orca2_gen.run_directory.arrow_files import FileEntry

CROISSANT = "croissant.json"
ARROW_STREAM = "application/vnd.apache.arrow.stream"
FORMATS = {"parquet": "application/x-parquet", "jsonl": "application/jsonlines"}
"""Format of an export -> the MIME type that Croissant's readers know."""
PARTS, ROWS = "parts", "rows"
_SPECIFICATIONS = ["http://mlcommons.org/croissant/1.0", "http://mlcommons.org/croissant/RAI/1.0"]
_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "sc": "https://schema.org/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    **{
        name: f"cr:{name}"
        for name in (
            *("citeAs", "column", "equivalentProperty", "extract", "field", "fileProperty"),
            *("fileObject", "fileSet", "format", "includes", "isLiveDataset", "jsonPath", "key"),
            *("md5", "parentField", "path", "recordSet", "references", "regex", "repeated"),
            *("replace", "samplingRate", "separator", "source", "subField", "transform"),
        )
    },
}
_TYPES = {"string": "sc:Text", "bool": "sc:Boolean", "float": "sc:Float", "double": "sc:Float"}
_MOST_NAMED = 50


def croissant_of(manifest: Manifest) -> dict[str, Any]:
    """The contents of a dataset's croissant.json."""
    assert manifest.figures is not None and manifest.summary is not None
    listed = {entry.path: ARROW_STREAM for entry in manifest.files}
    return {
        **described(manifest, manifest.name),
        **files_and_rows(
            manifest.files,
            listed,
            dict(manifest.figures.columns),
            pattern="data-*.arrow",
            about="Arrow IPC streams, which datasets.load_from_disk reads.",
        ),
    }


def export_croissant(made: ExportManifest, source: Manifest, schema: pa.Schema) -> dict[str, Any]:
    """The contents of an export's croissant.json.

    Args:
        made: the export, whose descriptions are not listed yet.
        source: the manifest of the dataset.
        schema: the columns of the export's rows.
    """
    return {
        **described(source, f"{source.name or 'rows'} ({made.shape})"),
        **files_and_rows(
            made.files,
            {entry.path: FORMATS[made.format] for entry in made.files},
            features_of(schema),
            pattern=f"train-*.{made.format}",
            about=f"The rows, in order, as {made.format} of the shape {made.shape}.",
        ),
    }


def described(manifest: Manifest, name: str) -> dict[str, Any]:
    """What holds for a dataset and for an export of it: names, licenses, responsible AI."""
    shown = one_line(name) or "rows"
    body: dict[str, Any] = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "name": shown,
        "description": _description(manifest),
        "conformsTo": _SPECIFICATIONS,
        "version": "1.0.0",
        "citeAs": f"{shown}, a dataset made by orca2-gen",
        "keywords": TAGS,
        "license": NOT_STATED,
        "rai:dataUseCases": use_cases(),
        "rai:dataLimitations": limits(manifest),
    }
    facts = manifest.facts
    # The clock's own day would make other bytes of the same rows.
    day = facts.date if facts is not None else ""
    if day:
        body["datePublished"] = day
    if facts is None:
        return body
    found = licensing(facts)
    stated = list(found.stated) or NOT_STATED
    body["license"] = stated if found.license == OTHER else found.license
    if languages := language_of(facts):
        body["inLanguage"] = languages
    return body | _responsible(facts, manifest)


def files_and_rows(
    files: Sequence[FileEntry],
    formats: dict[str, str],
    features: dict[str, Any],
    *,
    pattern: str,
    about: str,
) -> dict[str, Any]:
    """The files, and the fields of the rows in them.

    Args:
        files: the files of rows, in order.
        formats: name of a file -> its MIME type.
        features: column -> its feature, in the words of dataset_info.json.
        pattern: the pattern of the files' names.
        about: what the files are.
    """
    objects = [
        {
            "@type": "cr:FileObject",
            "@id": entry.path,
            "name": entry.path,
            "contentUrl": entry.path,
            "contentSize": f"{entry.bytes} B",
            "encodingFormat": formats[entry.path],
            "sha256": entry.sha256,
        }
        for entry in files
    ]
    parts = {
        "@type": "cr:FileSet",
        "@id": PARTS,
        "name": PARTS,
        "description": about,
        "encodingFormat": formats[files[0].path],
        "includes": pattern,
    }
    fields = [_field(f"{ROWS}/{name}", name, name, "", found) for name, found in features.items()]
    rows = {"@type": "cr:RecordSet", "@id": ROWS, "name": ROWS, "field": fields}
    return {"distribution": [*objects, parts], "recordSet": [rows]}


def _field(place: str, name: str, column: str, path: str, feature: Any) -> dict[str, Any]:
    """A field of a column, or of a part of it to which a path leads."""
    field: dict[str, Any] = {"@type": "cr:Field", "@id": place, "name": name}
    is_list = isinstance(feature, list) or "feature" in feature
    if is_list:
        field["repeated"] = True
        feature = feature[0] if isinstance(feature, list) else feature["feature"]
    while isinstance(feature, dict) and "feature" in feature:  # a list of lists is but repeated
        feature = feature["feature"]
    if isinstance(feature, dict) and "dtype" not in feature:
        field["subField"] = [
            _field(f"{place}/{key}", key, column, f"{path}.{key}" if path else key, inner)
            for key, inner in sorted(feature.items())
        ]
        return field
    source: dict[str, Any] = {"fileSet": {"@id": PARTS}, "extract": {"column": column}}
    if path:
        source["transform"] = {"jsonPath": path}
    type_ = feature["dtype"]
    return field | {"dataType": _TYPES.get(type_, "sc:Integer"), "source": source}


def _description(manifest: Manifest) -> str:
    rows = "Rows"
    if manifest.summary is not None:
        rows = f"{manifest.summary.rows:,} rows of {len(manifest.summary.rows_by_task):,} tasks"
    return (
        f"{rows}: problems, and a teacher model's answers under the reasoning strategy that works "
        f"best for the student. Proof that the strategy's instruction is erased from the prompts: "
        f"{one_line(verdict(manifest), 500)}"
    )


def _responsible(facts: RunFacts, manifest: Manifest) -> dict[str, Any]:
    teacher = next((model.name for model in facts.models if model.role == "teacher"), "")
    named = [one_line(f"{model.role}: {model.name}") for model in facts.models]
    tasks = [one_line(source.task) for source in facts.sources]
    more = f" and {len(tasks) - _MOST_NAMED:,} more" if len(tasks) > _MOST_NAMED else ""
    read = sum(source.read for source in facts.sources)
    asked = ", ".join(f"{name} {value}" for name, value in sorted(facts.sampling.items()))
    kept = "were kept if they end in the gold answer"
    if facts.sampling.get("verify") is False:
        kept = "were kept if they are finished and readable"
    return {
        "rai:dataCollection": (
            f"{read:,} rows of the files of {len(tasks):,} tasks ("
            f"{', '.join(tasks[:_MOST_NAMED])}{more}) were read as problems. The teacher "
            f"{one_line(teacher)} answered them, and answers {kept}."
        ),
        "rai:dataCollectionType": ["Secondary Data Analysis", "Synthetic Data"],
        "rai:dataAnnotationProtocol": [
            "No person annotated the rows. The strategy of each group was chosen by the scores of "
            f"the answers of a model; the teacher was asked with {one_line(asked, 500)}."
        ],
        "rai:machineAnnotationTools": named,
        "rai:dataPreprocessingProtocol": _preprocessing(facts, manifest),
        "rai:dataBiases": [
            "Problems that the teacher did not solve are missing, so that hard ones are fewer than "
            "in the tasks; the answers have the biases of the model that wrote them."
        ],
        "rai:personalSensitiveInformation": [
            "The rows were not searched for personal or sensitive information: what the tasks' "
            "files hold of it, or a model remembers, may stand in them."
        ],
    }


def _preprocessing(facts: RunFacts, manifest: Manifest) -> list[str]:
    found = []
    copies = facts.copies
    if copies is not None:
        counts = {
            reason: sum(source.reasons.get(reason, 0) for source in facts.sources)
            for reason in (DUPLICATE, CONTAMINATED)
        }
        found.append(
            f"{counts[DUPLICATE]:,} duplicates and {counts[CONTAMINATED]:,} rows that repeat "
            "a held-out problem were rejected before any model was asked."
        )
    if manifest.prompts == "erased":
        found.append(
            "The system message of every row is the cautious one in place of the strategy's "
            "instruction."
        )
    found += [
        f"{stage.stage}: {stage.input:,} in, {stage.accepted:,} accepted, "
        f"{stage.rejected:,} rejected."
        for stage in facts.stages
    ]
    return found
