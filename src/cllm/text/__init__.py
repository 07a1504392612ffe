"""Text: from files of any kind to clean documents, tokens and shards."""
