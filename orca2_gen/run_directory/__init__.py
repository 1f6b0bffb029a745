"""The files of a run: how records become Arrow, what is committed, who may write."""
