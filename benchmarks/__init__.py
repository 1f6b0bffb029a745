"""Measurements; each prints a table for people and one JSON document on its last line."""

import orca2_gen  # noqa: F401  puts the process offline, which must come before ray is imported
