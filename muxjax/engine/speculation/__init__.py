"""Speculative decoding: tokens are drafted, and a step checks several of a sequence at once (docs/decisions/0030)."""
