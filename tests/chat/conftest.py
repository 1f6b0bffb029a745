"""The models of the collection, one after another."""

from __future__ import annotations

from pathlib import Path

import pytest

from orca2_gen.chat import Chat, load_chat
from tests.chat.collection import directory, rendering, shapes
from tests.chat.published_shape import PublishedShape


@pytest.fixture(scope="session", params=shapes(), ids=lambda shape: shape.name)
def shape(request: pytest.FixtureRequest) -> PublishedShape:
    found: PublishedShape = request.param
    return found


@pytest.fixture(scope="session")
def shape_dir(shape: PublishedShape, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return directory(shape, tmp_path_factory.getbasetemp() / "collection")


@pytest.fixture(scope="session")
def shape_chat(shape: PublishedShape, shape_dir: Path) -> Chat:
    """The shape's Chat, with the policy and the arguments that it needs."""
    return load_chat(str(shape_dir), rendering(shape))
