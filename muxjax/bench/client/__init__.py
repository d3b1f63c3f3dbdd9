"""The client of an open load: what is asked, how, and what became of it."""
