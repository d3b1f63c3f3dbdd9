"""LoRA adapters: what their folders hold, and how a decoder computes with several of them at once."""
