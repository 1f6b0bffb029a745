"""Mistakes in what a user wrote, in plain words."""
