"""Tensors as checkpoints store them, and those that are made of stored ones while they are read, as quantised weights are."""
