#!/usr/bin/env bash
# The rows beside Table 1: `sbatch slurm/extra.sh`, or `bash slurm/extra.sh` on a login
# node. A short job that submits the others (submit.sh); settings in env.sh.
#SBATCH --job-name=extra --ntasks=1 --time=15 --no-requeue
slurm=$(dirname "$0")
[ -f "$slurm/submit.sh" ] || slurm=${SLURM_SUBMIT_DIR:-.}/slurm # a job runs a copy of this file, elsewhere
[ -f "$slurm/submit.sh" ] || { echo "submit it in the checkout: cd CHECKOUT && sbatch slurm/extra.sh" >&2; exit 2; }
exec bash "$slurm/submit.sh" extra
