"""Turns networks of other projects into model packages, once, offline; the extra ``convert`` brings what it needs.

Nothing else in the node imports it, and nowhere else is a pickle ever read.
"""
