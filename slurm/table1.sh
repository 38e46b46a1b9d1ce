#!/usr/bin/env bash
# Table 1 from its first update to table and figures: `sbatch slurm/table1.sh`, or `bash slurm/table1.sh` on a login
# node. A short job that submits the others (submit.sh); settings in env.sh.
#SBATCH --job-name=table1 --ntasks=1 --time=15 --no-requeue
slurm=$(dirname "$0")
[ -f "$slurm/submit.sh" ] || slurm=${SLURM_SUBMIT_DIR:-.}/slurm # a job runs a copy of this file, elsewhere
[ -f "$slurm/submit.sh" ] || { echo "submit it in the checkout: cd CHECKOUT && sbatch slurm/table1.sh" >&2; exit 2; }
exec bash "$slurm/submit.sh" table1
