"""One thread for every test process: results and timings then do not depend on the machine's cores."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

# Imported after the variable is set, because torch reads it at import.
import torch

torch.set_num_threads(1)
