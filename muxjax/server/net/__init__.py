"""What lies below HTTP: sockets, open files, connections."""
