"""Comparing an engine with its reference: parity, drift per degradation, and the gates they are held to."""
