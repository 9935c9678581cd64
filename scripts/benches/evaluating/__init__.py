"""What `evaluate` measures, and how other tools measure it."""
