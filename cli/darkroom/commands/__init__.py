"""One module a subcommand of `darkroom`."""
