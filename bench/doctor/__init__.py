"""What a machine lacks for a run, before it is paid for: `python -m bench.doctor`."""
