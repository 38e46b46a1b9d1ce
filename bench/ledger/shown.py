"""What a run's page in MLflow has beside its numbers: a note, what went into the run, and files to look at."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from bench.experiments import EXTRA, TABLE1, TABLE2
from bench.ledger.runs import Run

TABLES = {
    "Table 1": ("table1.csv", TABLE1),
    "Table 2 and Figure 7": ("figure7.csv", {row.name: row for row in TABLE2.values()}),
    "the extra rows": ("extra.csv", EXTRA),
}
MANIFEST, SHEET = "images/manifest.jsonl", "images/sheet.png"
# Pictures across a sheet and down, and the pixels of each side. Our choice: a wide screen, and at most some megabytes.
COLUMNS, LINES, TILE = 16, 12, 128


@dataclass(frozen=True)
class Input:
    """Prompts that a run used.

    Attributes:
        context: training, evaluation, or evaluation of one proxy.
        prompts: the file's path, as the run was told it.
        record: the hash in run.json of what was read from it.
    """

    context: str
    prompts: str
    record: str

    def tags(self) -> dict[str, str]:
        """What identifies the prompts; the file's own hash and count where it is still there."""
        found = {"mlflow.data.context": self.context, "file": Path(self.prompts).name, "hash": self.record}
        try:
            content = Path(self.prompts).read_bytes()
        except OSError:
            return found
        lines = str(sum(bool(line.strip()) for line in content.splitlines()))
        return found | {"sha256": hashlib.sha256(content).hexdigest(), "prompts": lines}


def inputs(run: Run) -> list[Input]:
    """The prompt files that the record names: those it trains on, and those of its image sets."""
    config, hashes = run.info.get("config", {}), run.info.get("hashes", {})
    evaluation = config.get("evaluation", {})
    asked = [("training", config.get("tasks", {}).get(run.info.get("task"), {}), "prompts")]
    asked += [("evaluation", evaluation, "evaluation")]
    asked += [(f"evaluation, {name}", own, "evaluation") for name, own in evaluation.get("proxies", {}).items()]
    known = [each for each in asked if each[1].get("prompts") and each[2] in hashes]
    return [Input(context, str(settings["prompts"]), hashes[key]) for context, settings, key in known]


def base_model(run: Run) -> dict[str, str]:
    """Backbone, weights and their hash; nothing where the record has none."""
    weights = run.info.get("hashes", {}).get("weights")
    if not weights:
        return {}
    backbone = run.info["backbone"]
    path = run.info.get("config", {}).get("backbones", {}).get(backbone, {}).get("weights", "")
    return {"backbone": backbone, "weights": str(path), "hash": weights}


def note(run: Run) -> str:
    """Markdown: what the run is, which cells of which table it stands behind, and where its folder is."""
    info = run.info
    name, run_id = info.get("row", run.path.parent.name), info.get("run_id", "")
    trained = f"trained on the {info['task']} proxy" if info.get("task") else "not trained"
    cells = [
        f"{title}: line `{name}` of `{file}`, every cell whose runs name `{run_id}`"
        for title, (file, rows) in TABLES.items()
        if name in rows
    ]
    return "\n\n".join(
        [
            f"**{info.get('method', name)}** on {info.get('backbone', '?')}, {trained}, seed {info.get('seed', '?')}, "
            f"at the {info.get('scale', '?')} scale.",
            *cells,
            f"Folder: `{run.path}`",
            f"From the run to the folder and back: `python -m bench.ledger find {run_id or name}`",
        ]
    )


def files(run: Run) -> dict[str, Path]:
    """What is copied as it is, by its name there: all scores, and the manifest of the last evaluation's gold set."""
    root = run.path / "scores"
    found = {f"scores/{path.relative_to(root).as_posix()}": path for path in sorted(root.rglob("update-*.parquet"))}
    manifests = sorted(run.path.glob("images/update-*/manifest.jsonl"))
    return found | ({MANIFEST: manifests[-1]} if manifests else {})


def sheet(folder: Path) -> Image.Image:
    """The pictures of an image set, a prompt's side by side; a picture that cannot be read is left blank.

    Where they are more than fit, whole prompts at even distances.

    Raises:
        OSError, ValueError, KeyError: the manifest cannot be read.
    """
    groups = _by_prompt(folder / "manifest.jsonl")
    members = max(map(len, groups))
    beside = max(1, COLUMNS // members)  # prompts in a line
    at = np.linspace(0, len(groups) - 1, min(beside * LINES, len(groups))).astype(int)
    made = Image.new("RGB", (beside * members * TILE, -(-len(at) // beside) * TILE), "white")
    for index, group in enumerate(groups[each] for each in at):
        for member, name in enumerate(group):
            column = index % beside * members + member
            made.paste(_tile(folder / Path(name).name), (column * TILE, index // beside * TILE))
    return made


def _by_prompt(manifest: Path) -> list[list[str]]:
    """File names by prompt, in the manifest's order."""
    groups: dict[str, list[str]] = {}
    for line in manifest.read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        groups.setdefault(entry["prompt_id"], []).append(entry["file"])
    return [*groups.values()]


def _tile(path: Path) -> Image.Image:
    try:
        with Image.open(path) as found:
            kind = Image.Resampling.LANCZOS if max(found.size) > TILE else Image.Resampling.NEAREST
            return found.convert("RGB").resize((TILE, TILE), kind)
    except (OSError, ValueError):
        return Image.new("RGB", (TILE, TILE), "white")
