"""The configuration of a server: where it comes from, what it allows."""
