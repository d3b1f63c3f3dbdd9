"""Parts of an answer's text: what is said, reasoning, and calls of tools, in whatever JSON they are told."""
