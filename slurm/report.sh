#!/usr/bin/env bash
# Table and figures from all runs that are there.
set -euo pipefail
. slurm/common.sh
exec "$PYTHON" -m paper_tables --runs "$RUNS" --out "$OUT"
