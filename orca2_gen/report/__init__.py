"""A run directory -> one page that shows what it did, for people who were not there."""
