"""Foreign trainers, each in an environment of its own, and what they make of a dataset of ours.

`with_*` and `witness` run in those environments, where this project and its libraries are absent.
"""
