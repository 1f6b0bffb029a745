"""The parts of `python -m benchmarks.training_throughput`: one training, in several loops."""
