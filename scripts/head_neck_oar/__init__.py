"""The road of models/head-neck-oar: its training set, its training, its validation."""
