"""Data sets by name, from files or from code, and their preprocessing."""
