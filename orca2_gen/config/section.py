"""What every section of a config file shares."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]


class Section(BaseModel):
    """A section of a config file: frozen, and a key that it does not know is an error.

    The sentence under a field is its description, which config/reference.py prints.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)
