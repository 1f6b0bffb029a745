"""The origin of a row, and whether the row may be used again."""
