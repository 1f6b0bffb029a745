"""Committed examples -> a directory that trainers read, and what is proved about it."""
