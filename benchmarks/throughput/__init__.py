"""What `python -m benchmarks.generation_throughput` is made of."""
