"""A base model's directory -> a student's: control tokens, their rows, a chat template.

Bytes that need not change are copied as they are, and weights are read a block of rows at a time,
so that a model of any size needs little memory.
"""

from orca2_gen.preparation.prepare import Prepared, Wish, prepare

__all__ = ["Prepared", "Wish", "prepare"]
