"""The parts of `python -m benchmarks.real_models`: a student and a teacher, both real models."""
