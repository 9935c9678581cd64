"""A storm over a node: kills, senders, destinations that flap, and what is left of the promises after it."""
