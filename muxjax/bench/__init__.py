"""Clients that measure a server over HTTP."""
