"""Landscapes as jobs: durable orders, fair turns on devices, and what computes them."""
