"""A hostile network around the receiver: `scripts/attack --help`."""
