"""One model's share of a unit's state: its sequences, their slots and block tables, and its part of the prefix cache."""
