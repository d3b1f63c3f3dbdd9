"""Attention and cache-write kernels, each with its meaning in plain jnp."""
