"""Who contours for `inference` and `gpu`, and what."""
