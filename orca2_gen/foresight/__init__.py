"""How long a stage still takes: the units, or the races, that are left, at the engines' speed."""
