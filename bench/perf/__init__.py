"""How fast the runner is, by itself and beside the official flow_grpo code: `python -m bench.perf`."""
