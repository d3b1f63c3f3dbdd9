"""Routes of the endpoint beside those that generate."""
