"""Parts of `muxjax run-batch`: its files, and the answers to their lines."""
