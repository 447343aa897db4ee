"""What callers say and are told: names, findings, pages, errors as statuses."""
