"""The bodies of `orca2`'s sub-commands."""
