"""Text and HTTP: the OpenAI-compatible front."""
