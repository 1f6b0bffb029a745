"""A machine, a run directory -> findings: what is right, what is odd, what will not work."""
