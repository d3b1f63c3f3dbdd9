"""muxjax: many large language models on shared accelerators, in JAX."""
