"""What needs torch: run by ``tests/parity/test_learning.py`` in the place where torch is."""
