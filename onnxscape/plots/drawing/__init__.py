"""The drawing of a figure with matplotlib's objects, never through pyplot's global state."""
