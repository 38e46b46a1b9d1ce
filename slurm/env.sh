# shellcheck shell=bash disable=SC2034
# What differs from machine to machine; nothing else in this folder does. Edit it, or export a variable, which goes
# before what stands here. A list is an array here; exported, it has one word a line.

# --- what is run
SCALE=${SCALE:-paper}           # tiny: the same jobs on CPUs
PROTOCOL=${PROTOCOL:-paired}    # or released (bench/README.md)
SEEDS=${SEEDS:-0}               # of every row, with commas: 0,1,2
ROWS=${ROWS:-}                  # of the suite these alone, with commas; empty: all
[ -v OVERRIDES ] || OVERRIDES=()  # more settings for bench.train: (updates=60 optim.rate=5e-5)

# --- Slurm: empty takes the cluster's default
PARTITION=${PARTITION:-}
ACCOUNT=${ACCOUNT:-}
QOS=${QOS:-}
[ -v SBATCH_OPTIONS ] || SBATCH_OPTIONS=()  # what else your cluster asks of a row's job: (--mem=0 --constraint=h200)
[ -v MODULES ] || MODULES=()    # for `module load`: (cuda/12.8)
AT_ONCE=${AT_ONCE:-4}           # rows that train at a time
RETRIES=${RETRIES:-3}           # times that a job whose process was lost begins again in place before it fails
RANKS_WAIT=${RANKS_WAIT:-120}   # seconds that the others have to end after one has
WARNING=${WARNING:-1800}        # seconds before its time limit that a job is told to save; more than the updates of an epoch
NODES=${NODES:-1}               # of one row
if [ "$SCALE" = tiny ]; then
  GPUS_PER_NODE=0
  TASKS_PER_NODE=${TASKS_PER_NODE:-1}
  CPUS_PER_TASK=${CPUS_PER_TASK:-1}
  TIME_LIMIT=${TIME_LIMIT:-2:00:00}
else
  GPUS_PER_NODE=${GPUS_PER_NODE:-8}
  TASKS_PER_NODE=${TASKS_PER_NODE:-$GPUS_PER_NODE}
  CPUS_PER_TASK=${CPUS_PER_TASK:-8}
  TIME_LIMIT=${TIME_LIMIT:-24:00:00}
fi
GOLD_GPUS=${GOLD_GPUS:-$((GPUS_PER_NODE > 2 ? 2 : GPUS_PER_NODE))}  # one for the judges, one for their server

# --- the judges of gold.sh
# JUDGE_SERVER starts UnifiedReward's server, in an environment of its own; () where there is none or it runs already.
# JUDGE_OPTIONS tells the judges where it is, SCORER.OPTION=VALUE as for `bench.judge --set`.
#   JUDGE_SERVER=(env CUDA_VISIBLE_DEVICES=1 /opt/vllm/bin/vllm serve CodeGoat24/UnifiedReward-2.0-qwen3vl-8b --port 8080)
#   JUDGE_OPTIONS=(unified_reward.base_url=http://localhost:8080/v1)
[ -v JUDGE_SERVER ] || JUDGE_SERVER=()
[ -v JUDGE_OPTIONS ] || JUDGE_OPTIONS=()
JUDGE_WAIT=${JUDGE_WAIT:-1800}  # seconds that the server has to become healthy

# --- folders and programs; every node must see them
STUDY=$SCALE$([ "$PROTOCOL" = paired ] || printf '_%s' "$PROTOCOL")
RUNS=${RUNS:-runs/$STUDY}
OUT=${OUT:-out/$STUDY}
PYTHON=${PYTHON:-$PWD/.venv/bin/python}
# export HF_HOME=/scratch/$USER/huggingface        # weights; the default is in your home
# export GOLD_METRICS_HOME=/scratch/$USER/judges   # scores and weights of the judges

# Where runs are copied to; unset: a database in RUNS. Tokens
# (HF_TOKEN, MLFLOW_TRACKING_TOKEN, UNIFIED_REWARD_API_KEY) do not belong here: export them before sbatch, which hands
# them to its jobs.
# export MLFLOW_TRACKING_URI=https://mlflow.example.org
# live: each run copies what is new when it is evaluated; after: the report copies all, for a database cannot be written
# from several hosts where RUNS is on a network file system.
MIRROR=${MIRROR:-$([ "$SCALE" = tiny ] || [ -n "${MLFLOW_TRACKING_URI:-}" ] && echo live || echo after)}
export MLFLOW_DISABLE_TELEMETRY=true
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
