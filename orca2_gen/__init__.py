"""Orca 2's cautious-reasoning data: what happens to a record, from task to training example.

Importing this package sets the offline variables (`offline.go_offline`): vLLM, Ray and Hugging Face
read them on import, so any later would be too late.
"""

from orca2_gen.offline import go_offline

__version__ = "0.1.0"

go_offline()
