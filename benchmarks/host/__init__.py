"""The parts of `python -m benchmarks.first_light`."""
