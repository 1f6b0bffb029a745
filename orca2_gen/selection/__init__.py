"""Scores -> one strategy per group: the problems to ask next, the strategies out, the choice."""
