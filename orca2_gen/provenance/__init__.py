"""What a row was made from, and whether it may be used again."""
