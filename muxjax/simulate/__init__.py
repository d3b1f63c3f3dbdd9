"""Serving in virtual time: the engine's own unit, loop and policies over costs in place of devices."""
