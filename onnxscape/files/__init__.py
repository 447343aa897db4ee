"""Files: written atomically, read with limits, locked while written."""
