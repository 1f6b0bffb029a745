"""What a run will take, before any engine has started: its tasks, its config and earlier runs."""
