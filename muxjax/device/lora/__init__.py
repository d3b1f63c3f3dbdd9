"""LoRA adapters of a model: in the host's memory, and in places on the devices."""
