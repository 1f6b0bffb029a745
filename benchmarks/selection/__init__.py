"""What `python -m benchmarks.selection_savings` is made of."""
