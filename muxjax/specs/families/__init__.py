"""Families of models: what stands in the config.json of each, and nowhere else. One file a family; `known_families.py` lists them."""
