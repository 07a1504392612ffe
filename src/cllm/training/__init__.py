"""Training: from shards to a model folder."""
