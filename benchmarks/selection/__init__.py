"""The parts of `python -m benchmarks.selection_savings`."""
