"""Which models share which devices, and what that costs."""
