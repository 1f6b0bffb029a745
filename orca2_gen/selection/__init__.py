"""Scores -> one strategy per group: which problems are asked next, who is out, who is chosen."""
