"""Commands that talk to a running server: a conversation, and what an operator asks."""
