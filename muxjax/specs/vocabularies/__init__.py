"""Tokenizers in other forms than tokenizer.json, made into those of the `tokenizers` library."""
