"""Imported before NumPy: holds every numerical library to one thread."""

from __future__ import annotations

import os

for _name in (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "LANCE_CPU_THREADS",
    "RAYON_NUM_THREADS",
    "TOKIO_WORKER_THREADS",
):
    os.environ[_name] = "1"
