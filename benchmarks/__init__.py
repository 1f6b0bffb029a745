"""Measurements; each prints a table for people and one JSON document on its last line."""

import orca2_gen  # noqa: F401  sets the process offline, which must happen before ray is imported
