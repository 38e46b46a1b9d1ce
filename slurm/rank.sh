#!/usr/bin/env bash
# rank.sh COMMAND...: a task of srun as a rank of torch, which several find each other by.
if [ "$SLURM_NTASKS" -gt 1 ]; then
  export RANK=$SLURM_PROCID LOCAL_RANK=$SLURM_LOCALID WORLD_SIZE=$SLURM_NTASKS
fi
exec "$@"
