"""A machine, its models and its task files -> the text of a first config."""
