"""Published task files -> Problems."""
