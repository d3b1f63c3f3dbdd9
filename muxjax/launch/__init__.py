"""From options to an engine that serves, and models that come and go."""
