"""Sweeps: many trials, each in a process of its own, every ending a row, resumable, on one machine or a cluster."""
