"""Who may call, and how often at once."""
