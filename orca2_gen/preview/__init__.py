"""A whole run on a few problems of each task, and what the run would then take."""
