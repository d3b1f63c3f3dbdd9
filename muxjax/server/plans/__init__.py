"""What is served on which devices, and when that changes."""
