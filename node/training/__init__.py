"""Trains networks on a training set, and leaves them as nnU-Net v2 would; the extra ``train`` brings what it needs."""
