"""Units on the hosts of a Ray cluster. Ray keeps the workers' processes and their devices; the tokens go by our own messages."""
