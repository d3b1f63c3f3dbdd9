"""Serving systems that a comparison starts, asks and stops."""
