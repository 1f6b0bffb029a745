"""The parts of `python -m benchmarks.generation_throughput`."""
