"""Exact rewrites of a traced graph: one rule, or family of rules, per file; the order is in `catalogue`."""
