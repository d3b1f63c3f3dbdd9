"""`muxjax simulate`: its options, its run, and what is told of it."""
