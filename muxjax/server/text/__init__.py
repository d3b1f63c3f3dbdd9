"""Text and tokens: tokenizers, chat templates, detokenizing as tokens come."""
