"""Where records are worked on: clusters, actors, leases."""

import orca2_gen  # noqa: F401  puts the process offline, which must come before ray is imported
