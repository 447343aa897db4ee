"""Files: the live point store, surfaces, directions."""
