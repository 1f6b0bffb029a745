"""Questions asked of a config and its files alone, before Ray or an engine starts."""
