"""Hearing, measured on real speech and real noise: ``python -m benchmarks.hearing``."""

import os

# Before numpy is imported: one thread, as in a process that carries calls.
for _library in ("OMP", "OPENBLAS", "MKL"):
    os.environ.setdefault(f"{_library}_NUM_THREADS", "1")
