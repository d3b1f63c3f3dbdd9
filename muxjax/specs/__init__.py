"""Shapes of models: from Hugging Face's config.json, and published ones by name."""
