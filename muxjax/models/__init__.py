"""Decoder language models: Flax NNX definitions, specs from Hugging Face configs, weights."""
