"""Evaluations of a run: their answers, the figures that can be quoted, and logs for other tools."""
