"""Scripted runs: tasks, models and engines drawn from a seed, and time that is simulated."""
