from __future__ import annotations

import dataclasses

import pytest

from orca2_gen import records
from orca2_gen.run_directory.record_tables import arrow_schema

CLASSES = [c for c in vars(records).values() if dataclasses.is_dataclass(c)]


@pytest.mark.parametrize("record", CLASSES)
def test_a_record_is_frozen_slotted_and_keyword_only(record: type) -> None:
    assert record.__dataclass_params__.frozen  # type: ignore[attr-defined]
    assert not hasattr(record, "__dict__") or "__slots__" in vars(record)
    assert all(field.kw_only for field in dataclasses.fields(record))


@pytest.mark.parametrize("record", CLASSES)
def test_no_column_of_a_record_may_be_absent(record: type) -> None:
    schema = arrow_schema(record)
    assert schema.names == [field.name for field in dataclasses.fields(record)]
    assert not any(schema.field(name).nullable for name in schema.names)
