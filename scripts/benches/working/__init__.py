"""What the bench of jobs is made of: series, a node at work, and its stages without the durable engine."""
