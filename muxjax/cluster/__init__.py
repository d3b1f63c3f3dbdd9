"""Several units behind one endpoint: their worker processes, the messages between them and the front, and who serves which request."""
