"""Hearing, measured on real speech and real noise: ``python -m benchmarks.hearing``."""
