"""Quantising: float32 matrices to few bits, with as little harm to the model as can be had."""
