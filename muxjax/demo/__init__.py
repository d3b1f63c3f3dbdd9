"""Three tiny models with knowledge of their own, and the questions that tell them apart."""
