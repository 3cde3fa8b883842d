"""Measurements of the bridge on this machine; ``python -m benchmarks`` runs them."""
