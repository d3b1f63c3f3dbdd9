"""Embeddings: texts or tokens in, pooled hidden states out, in OpenAI's JSON."""
