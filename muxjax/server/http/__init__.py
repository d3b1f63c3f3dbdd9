"""Routes, middleware and the page: what comes in over HTTP and goes out."""
