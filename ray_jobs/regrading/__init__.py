"""`orca2 regrade`: another run's completions under today's grader, with no engine."""
