"""One TOML file -> a checked, frozen Config, and the arguments that are unpacked from it."""
