"""The passes of the canonical form, one module per family.

A pass is a function that changes a model in place and leaves what it computes unchanged; its
docstring says what holds before and after it. `graph.canonical` runs them in order.
"""
