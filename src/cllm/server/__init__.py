"""The server: models over HTTP, as OpenAI's clients speak it, and what is kept below /api."""
