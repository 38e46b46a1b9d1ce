#!/usr/bin/env bash
# Tables, figures, claims and the page of them from all runs that are there.
set -euo pipefail
. slurm/common.sh
[ "$MIRROR" = live ] || "$PYTHON" -m bench.ledger import "$RUNS" || say "the copy in MLflow was not made"
"$PYTHON" -m paper_tables --runs "$RUNS" --out "$OUT"
for what in claims report; do
  "$PYTHON" -m paper_tables --runs "$RUNS" --out "$OUT" "$what" || say "no $what were written; the tables are in $OUT"
done
