"""The engines of one model: their placement, their work, and the handling of one that dies."""
