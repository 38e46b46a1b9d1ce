# shellcheck shell=bash
# What the scripts share. Sourced in the checkout, where Slurm starts every job of submit.sh.

say() { printf '%s %s: %s\n' "$(date '+%F %T')" "${SLURM_JOB_NAME:-$(basename "$0")}" "$1"; }

fail() { # MESSAGE [CODE]
  say "$1" >&2
  exit "${2:-2}"
}

as_list() { # NAME: the words of a setting that was exported as lines, or the array of env.sh as it is
  local -n list=$1
  local words=("${list[@]}")
  [ "${#words[@]}" -gt 1 ] || mapfile -t list < <(printf '%s' "${words[0]-}")
}

signals=0 # that arrived; a trap counts
# shellcheck disable=SC2034  # code is for the caller
await() { # PID: its exit code, in $code, also where signals arrive meanwhile
  local before
  while true; do
    before=$signals
    wait "$1"
    code=$?
    [ "$before" != "$signals" ] || return 0
  done
}

requeue() { # WHY: this job waits for its turn again
  say "$1; the job is queued again"
  # Not an array's task by SLURM_JOB_ID: the last one's is the number of the array, and would mean all of it.
  scontrol requeue "${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}${SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}" || fail "it could not be queued again; the same sbatch goes on from here" 75
  exit 75
}

. slurm/env.sh
modules=("${MODULES[@]}")
as_list modules
for name in "${modules[@]}"; do module load "$name"; done
