"""Generates Orca 2's cautious-reasoning data: what happens to a record, from task to training
example.

Importing this package puts the process offline (`offline.go_offline`): vLLM, Ray and Hugging Face
read these variables when they are imported, so setting them any later would be too late.
"""

from orca2_gen.offline import go_offline

__version__ = "0.1.0"

go_offline()
