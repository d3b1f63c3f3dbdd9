"""Clients' JSON schemas: read as JSON Schema has it, held against what grammars can be made of, refused in its own words."""
