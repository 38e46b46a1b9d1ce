"""Where every number comes from: what the runs' own records say."""

from __future__ import annotations

import json
import re
from itertools import groupby
from typing import Any

from bench import ledger
from bench.record import read_lines
from paper_tables.frame import Study

# run.json's entries that have a place of their own on the page; what is left is shown as it stands.
_OWN = ("row", "method", "run_id", "config", "versions", "definitions", "hashes", "git_commit", "recipe")


def anchor(row: str) -> str:
    """The id of a row's place in the provenance: letters, digits, dots, dashes and underscores alone."""
    return "runs-" + re.sub(r"[^A-Za-z0-9_.-]", "-", row)


def by_row(study: Study) -> list[dict[str, Any]]:
    """Per row its runs, each with what was asked, with what it was made, and where."""
    parts = groupby(study.runs, key=lambda run: str(run.info["row"]))
    return [_row(name, list(runs)) for name, runs in parts]


def _row(name: str, runs: list[ledger.Run]) -> dict[str, Any]:
    info = runs[0].info
    method = info["method"] if info["task"] else "base model"
    return {"name": name, "method": method, "anchor": anchor(name), "runs": [_run(run) for run in runs]}


def _run(run: ledger.Run) -> dict[str, Any]:
    info = run.info
    return {
        "id": info["run_id"],
        "seed": info["seed"],
        "commit": info.get("git_commit", "not recorded"),
        "host": _host(run),
        "tables": {
            "Versions": info.get("versions", {}),
            "Hashes": info["hashes"],
            "Definitions of the judges": info.get("definitions", {}),
            "Recipe": info["recipe"],
        },
        "config": json.dumps(info["config"], indent=1, sort_keys=True, ensure_ascii=False),
        "rest": {key: value for key, value in sorted(info.items()) if key not in _OWN},
    }


def _host(run: ledger.Run) -> str:
    """Where the run was made, as far as its record says."""
    lines = read_lines(run.path / "times.jsonl")
    found = {f"{line['host']} ({line.get('machine', '?')})" for line in lines if "host" in line}
    return ", ".join(sorted(found)) or "not recorded"
