"""Jobs and surfaces as callers see them."""
