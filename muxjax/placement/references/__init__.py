"""Placers that others are measured by: baselines, and exact ones for small problems."""
