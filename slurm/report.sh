#!/usr/bin/env bash
# Table and figures from all runs that are there.
set -euo pipefail
. slurm/common.sh
[ "$MIRROR" = live ] || "$PYTHON" -m bench.ledger import "$RUNS" || say "the copy in MLflow was not made"
exec "$PYTHON" -m paper_tables --runs "$RUNS" --out "$OUT"
