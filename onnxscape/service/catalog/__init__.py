"""Blobs, models and data sets: uploaded, named, kept."""
