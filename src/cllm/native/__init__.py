"""Compiled training."""
