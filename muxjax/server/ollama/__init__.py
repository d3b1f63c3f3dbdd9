"""Ollama's API over the same service: chats and completions by its names, as lines of JSON."""
