"""Readers: one file a type, each `read(content, settings)` yielding raw texts."""
