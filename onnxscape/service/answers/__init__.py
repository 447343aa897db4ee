"""What callers are told: pages, errors as statuses."""
