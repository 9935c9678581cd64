"""The demonstration: a synthetic patient, and a picture of what came back."""
