"""The record of runs: append-only files in each run's folder, read here and mirrored to MLflow.

A run folder is the truth; MLflow is a copy that can be made again at any time: `python -m bench.ledger import RUNS`.
"""

from bench.ledger.copies import mirror
from bench.ledger.runs import Run, flatten, folders, load, points, read, varied
from bench.record import LedgerError
from bench.strips import Picture

__all__ = ["LedgerError", "Picture", "Run", "flatten", "folders", "load", "mirror", "points", "read", "varied"]
