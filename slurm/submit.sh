#!/usr/bin/env bash
# submit.sh SUITE: submits an array over the suite's rows and seeds, then gold scoring, then the report, each after
# what it needs. Every job skips what is finished. DRY_RUN=1 prints the commands instead.
set -euo pipefail
cd "$(dirname "$0")/.."
. slurm/common.sh
suite=$1
exec 3>&1

submit() { # LABEL OPTION... SCRIPT: the job's number; of a dry run, the label in its place
  local command=(sbatch --parsable --chdir="$PWD" --job-name="$1-$suite" --requeue --open-mode=append
    --kill-on-invalid-dep=yes)
  [ -z "$PARTITION" ] || command+=(--partition="$PARTITION")
  [ -z "$ACCOUNT" ] || command+=(--account="$ACCOUNT")
  [ -z "$QOS" ] || command+=(--qos="$QOS")
  command+=("${@:2}")
  if [ -z "${DRY_RUN:-}" ]; then
    "${command[@]}" | cut -d ';' -f 1
  else
    { printf '%q ' "${command[@]}" && echo; } >&3
    echo "JOB_OF_${1^^}"
  fi
}

{ [ -x "$PYTHON" ] && { [ -e .venv/.fresh ] || [ "$PYTHON" != "$PWD/.venv/bin/python" ]; }; } ||
  fail "no Python with all packages at $PYTHON; run \`make setup\` in $PWD, or name another in slurm/env.sh"
case $SCALE-$PROTOCOL in
  tiny-paired | tiny-released | paper-paired | paper-released) ;;
  *) fail "SCALE must be tiny or paper, and PROTOCOL paired or released; found '$SCALE' and '$PROTOCOL'" ;;
esac
case $MIRROR in live | after) ;; *) fail "MIRROR must be live or after, found '$MIRROR'" ;; esac
[[ $TIME_LIMIT =~ ^(([0-9]+)-)?([0-9]+):([0-9]{2}):([0-9]{2})$ ]] ||
  fail "TIME_LIMIT must be HOURS:MINUTES:SECONDS, or days before them and a -, found '$TIME_LIMIT'"
limit=$((((10#0${BASH_REMATCH[2]} * 24 + 10#${BASH_REMATCH[3]}) * 60 + 10#${BASH_REMATCH[4]}) * 60 + 10#${BASH_REMATCH[5]}))
[ "$limit" -ge $((2 * WARNING)) ] ||
  fail "TIME_LIMIT=$TIME_LIMIT leaves no time to train before the WARNING of $WARNING s; give it twice that at least"
[[ $SEEDS =~ ^[0-9]+(,[0-9]+)*$ ]] || fail "SEEDS must be numbers with commas between them, found '$SEEDS'"
overrides=("${OVERRIDES[@]}") more=("${SBATCH_OPTIONS[@]}")
as_list overrides
as_list more
for each in "${overrides[@]}"; do
  case ${each%%=*} in
    row | seed | scale | protocol | runs | evaluation.later)
      fail "OVERRIDES must leave ${each%%=*} to ROWS, SEEDS, SCALE, PROTOCOL, RUNS or LATER" ;;
  esac
  [[ $each != *" "*=* ]] || fail "OVERRIDES must have one setting a line, or be an array; found '$each'"
done
settings=("scale=$SCALE" "protocol=$PROTOCOL" "runs=$RUNS" "${overrides[@]}")
ROWS=$("$PYTHON" -m bench.suite "$suite" --list --rows="$ROWS" "${settings[@]}") || exit 2
ROWS=${ROWS//$'\n'/,}
# Gold scores are gold.sh's: it loads each judge once for all rows, and a row waits for no server.
LATER=${LATER-$("$PYTHON" -c 'import sys; from bench.experiments import GOLD; print(*GOLD[sys.argv[1]], sep=",")' "$SCALE")}
# shellcheck disable=SC2178 # an array is not exported, its words as lines are
OVERRIDES=$(printf '%s\n' "${overrides[@]}") # as they are now: env.sh may have changed when a row begins
export SCALE PROTOCOL SEEDS ROWS LATER RUNS OUT PYTHON MIRROR OVERRIDES
tasks=$(($(tr -cd , <<< "$ROWS" | wc -c) + 1))
tasks=$((tasks * ($(tr -cd , <<< "$SEEDS" | wc -c) + 1)))

if [ -n "${DRY_RUN:-}" ]; then
  # A task's number chooses a row and a seed.
  printf 'export SCALE=%s PROTOCOL=%s RUNS=%q ROWS=%s SEEDS=%s LATER=%s\n' "$SCALE" "$PROTOCOL" "$RUNS" "$ROWS" "$SEEDS" "$LATER"
else
  mkdir -p "$RUNS/slurm" || fail "RUNS=$RUNS cannot be written; choose another"
  # Before many jobs would make it at once. It is a copy: rows do without.
  [ "$MIRROR" = after ] || "$PYTHON" -m bench.ledger create "$RUNS" || say "runs are not copied to MLflow meanwhile"
  # What the job of this script was given is not what the others need.
  for name in "${!SLURM_@}"; do [ "$name" = SLURM_CONF ] || unset "$name"; done
fi

log=$RUNS/slurm/%x
long=(--time="$TIME_LIMIT" --signal="B:USR1@$WARNING")
row=(--nodes="$NODES" --ntasks-per-node="$TASKS_PER_NODE" --cpus-per-task="$CPUS_PER_TASK" "${more[@]}")
judge=(--nodes=1 --ntasks=1 --cpus-per-task="$CPUS_PER_TASK")
if [ "$GPUS_PER_NODE" -gt 0 ]; then
  row+=(--gpus-per-node="$GPUS_PER_NODE")
  judge+=(--gpus-per-node="$GOLD_GPUS")
fi
rows=$(submit rows "${long[@]}" "${row[@]}" --array="0-$((tasks - 1))%$AT_ONCE" --output="$log-%A_%a.out" slurm/row.sh)
trap '[ -n "${DRY_RUN:-}" ] || scancel "$rows" "${gold:-}"; fail "not all jobs could be submitted; none is left"' ERR
gold=$(submit gold "${long[@]}" "${judge[@]}" --dependency="afterok:$rows" --output="$log-%j.out" slurm/gold.sh)
# A score that cannot be had ends the judging as failed; the table counts it and is written all the same.
after="afterok:$rows,afterany:$gold"
report=$(submit report --ntasks=1 --time=30 --dependency="$after" --output="$log-%j.out" slurm/report.sh)
[ -n "${DRY_RUN:-}" ] || say "$tasks rows in job $rows, gold scores in $gold, the report in $report; what they print: $RUNS/slurm"
[ "$SCALE" = tiny ] || [ -n "${DRY_RUN:-}" ] ||
  say "what a node lacks (GPUs, weights, prompts) is told by: $PYTHON -m bench.doctor scale=$SCALE --gpus $((NODES * GPUS_PER_NODE))"
