#!/usr/bin/env bash
# A task of the array: trains one row of one seed until it is finished, through time limits and lost processes.
# The run itself saves, resumes and skips what is finished; here is decided whether it goes on, from its exit code:
#   0 finished   2 refused, and would be again   75 saved, or another process has it   anything else: something was lost
set -uo pipefail
. slurm/common.sh
as_list OVERRIDES
IFS=, read -ra rows <<< "$ROWS"
IFS=, read -ra seeds <<< "$SEEDS"
row=${rows[${SLURM_ARRAY_TASK_ID?is for the tasks of an array; submit table1.sh} / ${#seeds[@]}]}
seed=${seeds[SLURM_ARRAY_TASK_ID % ${#seeds[@]}]}
status=$RUNS/$row/seed$seed/status.json

stamp() { stat -c %i-%Y-%Z "$status" 2> /dev/null; }
before=$(stamp)
finished() { [ "$(stamp)" != "$before" ] && grep -qs '"state": "finished"' "$status"; } # since this job began

rendezvous() { # where the ranks meet, for attempt $1
  local first
  first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
  # A name, as a node may resolve its own to a loopback address; Slurm's address where there is no such name.
  getent hosts "$first" > /dev/null ||
    first=$(scontrol show node "$first" | sed -n 's/.*NodeAddr=\([^ ]*\).*/\1/p')
  # Below the ports that Linux hands out, and another one each time: the last may still be held.
  export MASTER_ADDR=$first MASTER_PORT=$((10000 + (SLURM_JOB_ID + 1009 * $1) % 20000))
}

warning='' ended='' step='' timer=''
# shellcheck disable=SC2317 # a trap calls it
warned() {
  signals=$((signals + 1)) warning=1
  kill -USR1 "$step" # srun hands it to its tasks
  # The time limit would end this script too, and nobody would queue the job again: what is not saved shortly before is
  # given up. Slurm may warn up to a minute early, never late.
  [ -n "$timer" ] || { { sleep $((WARNING > 240 ? WARNING - 120 : WARNING / 2)) && kill -KILL "$step"; } & timer=$!; }
} 2> /dev/null
trap warned USR1
trap '[ -z "$timer" ] || { pkill -P "$timer"; kill "$timer"; } 2> /dev/null' EXIT
trap 'signals=$((signals + 1)) ended=1' TERM                                  # Slurm sends it to the tasks itself

train() { # its exit code, in $code
  # Ranks end one after the other, and the first writes last: none is killed because another was done before.
  srun --kill-on-bad-exit=0 --wait="$RANKS_WAIT" --cpus-per-task="$SLURM_CPUS_PER_TASK" \
    bash slurm/rank.sh "$PYTHON" -m bench.train "row=$row" "seed=$seed" "scale=$SCALE" "protocol=$PROTOCOL" "runs=$RUNS" \
    "evaluation.later=[$LATER]" "${mirror[@]}" "${OVERRIDES[@]}" &
  step=$!
  [ -z "$warning" ] || kill -USR1 "$step"
  await "$step"
}

# A word, so that what this job has begun anew is not begun anew again when it is queued again.
case ${FORCE:-0} in 0) export FORCE=0 ;; *) export FORCE=job-${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID} ;; esac
mirror=()
[ "$MIRROR" = live ] || mirror=(tracking=null)
for ((attempt = 0; attempt <= RETRIES; attempt++)); do
  [ -z "$warning" ] || requeue "told to end before it began"
  rendezvous "$attempt"
  say "$row seed $seed, attempt $((attempt + 1)) after ${SLURM_RESTART_COUNT:-0} restarts, on $SLURM_JOB_NODELIST"
  train
  [ "$code" != 0 ] || exit 0
  [ "$code" != 2 ] || fail "refused, so no gold scores and no report follow; when it is mended, submit again"
  ! finished || exit 0
  [ -z "$ended" ] || exit "$code" # cancelled; or requeued, by Slurm
  [ -z "$warning" ] || requeue "stopped by Slurm's warning (exit code $code)"
  [ "$code" != 75 ] || requeue "preempted, or another process has the run"
  say "the run ended with code $code"
done
fail "$row seed $seed ended $attempt times without being finished; its log is above, its folder $RUNS/$row/seed$seed" 1
