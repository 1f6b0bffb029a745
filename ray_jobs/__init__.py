"""The Ray side of a run: clusters, actors, leases."""

import orca2_gen  # noqa: F401  puts the process offline; must precede the import of ray
