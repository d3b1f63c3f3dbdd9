"""Parts of config.json that many families say alike: what a family is, and how windows, experts and rotary embeddings are read."""
