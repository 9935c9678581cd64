"""What the bench of the outputs is made of."""
