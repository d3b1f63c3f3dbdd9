"""Parts of `muxjax bench`: its flags, the load that is asked, and the runs."""
