"""Train, run and understand your own small language model on the machine you have."""

__version__ = "0.1.0"
