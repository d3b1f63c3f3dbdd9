"""Compiled programs: what each is made of, where they are kept, and who compiles those that are missing."""
