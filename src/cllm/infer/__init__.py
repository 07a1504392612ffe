"""Inference: from a prompt to text."""
