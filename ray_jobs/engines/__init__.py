"""The engines of one model: where they are, what they do, and what becomes of one that dies."""
