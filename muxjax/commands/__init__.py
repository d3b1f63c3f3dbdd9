"""What the `muxjax` commands over placements do, put together from the packages below."""
