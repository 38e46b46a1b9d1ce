#!/usr/bin/env bash
# Gold scores of every run, after all rows: starts the judges' server, waits until it answers, judges what is missing,
# and stops the server whatever happens.
set -uo pipefail
. slurm/common.sh
as_list JUDGE_SERVER
as_list JUDGE_OPTIONS
IFS=, read -ra rows <<< "$ROWS"
IFS=, read -ra seeds <<< "$SEEDS"
options=(--row "${rows[@]}" --seed "${seeds[@]}")
for option in "${JUDGE_OPTIONS[@]}"; do options+=(--set "$option"); done

alive() { kill -0 "$1" 2> /dev/null; }

server='' judge='' warning='' ended=''
trap '[ -z "$server" ] || kill -- "-$server" 2> /dev/null' EXIT # with all that it started
trap 'warning=1; kill "$judge" 2> /dev/null' USR1
trap 'ended=1; kill "$judge" 2> /dev/null' TERM

if [ "${#JUDGE_SERVER[@]}" -gt 0 ]; then
  setsid "${JUDGE_SERVER[@]}" &
  server=$!
fi
for ((attempt = 0; attempt <= RETRIES; attempt++)); do
  "$PYTHON" -m bench.judge "$RUNS" --wait "$JUDGE_WAIT" "${options[@]}" &
  judge=$!
  [ -z "$warning$ended" ] || kill "$judge"
  while alive "$judge"; do
    [ -z "$server" ] || alive "$server" || { kill "$judge"; wait "$server"; fail "the judges' server ended with code $?; what it said is above" 1; }
    sleep 1
  done
  wait "$judge"
  code=$?
  [ "$code" != 0 ] && [ "$code" != 2 ] || exit "$code"
  [ "$code" != 1 ] || fail "what is named above is missing; the same sbatch asks for scores that could not be had" 1
  [ -z "$ended" ] || exit "$code" # cancelled; or requeued, by Slurm
  [ -z "$warning" ] || requeue "stopped before the time limit"
  say "judging ended with code $code"
done
fail "the judge was lost $attempt times; the same sbatch goes on" 1
