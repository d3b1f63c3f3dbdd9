"""Ways of writing calls, one file each."""
