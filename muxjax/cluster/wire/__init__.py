"""The wire between the front and a worker: addresses, frames, messages, and both ends of a connection."""
