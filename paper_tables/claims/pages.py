"""The verdicts on the terminal and as Markdown, CSV and JSON."""

from __future__ import annotations

import json
import math
import textwrap
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from paper_tables.claims.verdict import RULES, VERDICTS, Part, Verdict
from paper_tables.claims.words import ABOUT_NOT_COUNTED, NOT_COUNTED, reader
from paper_tables.frame import Study
from paper_tables.statistics.bootstrap import Interval
from paper_tables.table import DASH

LITTLE_WORLD = (
    "Outcomes on the tiny scale are about its little world of shapes and letters: they neither confirm nor contradict "
    "the paper's numbers of SD3.5-M and FLUX.1-dev. What the method does to its log ratios and gradients is the same "
    "mathematics at any scale."
)


def about(study: Study) -> str:
    """Of what the verdicts speak: scale, protocol, seeds, runs."""
    seeds = sorted({int(run.info["seed"]) for run in study.runs})
    counts = Counter(run.info["row"] for run in study.runs).values()
    named = f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"
    named += f" ({min(counts)} to {max(counts)} a row)" if min(counts) < len(seeds) else ""
    first = f"{study.scale} scale, protocol {study.protocol}, {named}, {len(study.runs)} finished runs."
    return f"The claims of GRPO-Guard: {first}" + (f" {LITTLE_WORLD}" if study.scale == "tiny" else "")


def number(value: float | None, interval: Interval | None) -> str:
    """Three digits: "0.990 [0.877, 1.10]"; a dash where there is no value, and no brackets where no interval."""
    if value is None:
        return DASH
    ends = f" [{_digits(interval.low)}, {_digits(interval.high)}]" if interval and not math.isnan(interval.low) else ""
    return _digits(value) + ends


def _digits(value: float) -> str:
    return f"{value + 0.0:#.3g}".rstrip(".")


def over(interval: Interval | None) -> str:
    """What the interval is over: "updates, 5 seeds"; empty where there is none."""
    if interval is None or math.isnan(interval.low):
        return ""
    counts = {"seeds": interval.seeds, "prompts": interval.prompts}
    return interval.over + "".join(f", {n} {name if n > 1 else name[:-1]}" for name, n in counts.items() if n)


def to_text(study: Study, verdicts: Iterable[Verdict]) -> str:
    """A paragraph per claim for the terminal."""
    lines, plain = textwrap.wrap(about(study), 120), reader(study)
    for each in verdicts:
        lines += ["", f"{each.id:<4} {each.verdict.upper():<14} {number(each.value, each.interval)}"]
        lines += textwrap.wrap(each.statement, 110, initial_indent=" " * 5, subsequent_indent=" " * 5)
        lines += textwrap.wrap(plain(each.reason), 110, initial_indent=" " * 5 + "> ", subsequent_indent=" " * 7)
    return "\n".join([*lines, "", counted(verdicts)])


def counted(verdicts: Iterable[Verdict]) -> str:
    """How many claims have which verdict."""
    found = [each.verdict for each in verdicts]
    return ", ".join(f"{found.count(verdict)} {verdict}" for verdict in VERDICTS) + "."


def to_markdown(study: Study, verdicts: tuple[Verdict, ...]) -> str:
    """The page: what it speaks of, all verdicts in a table, the rules, and every claim with its parts."""
    plain = reader(study)
    rows = [
        [each.id, each.statement, f"**{each.verdict}**", number(each.value, each.interval),
         plain(each.of) if each.value is not None else "", over(each.interval), each.source]
        for each in verdicts
    ]  # fmt: skip
    heads = ["", "claim", "verdict", "number [95 %]", "of", "interval over", "source in the paper"]
    lines = [about(study), "", counted(verdicts), "", _table(rows, heads), "", "## How a verdict is made", ""]
    lines += [f"- {rule}" for rule in RULES]
    lines += ["", "## Claim by claim", "", ABOUT_NOT_COUNTED, ""]
    return "\n".join([*lines, *(_section(each, plain) for each in verdicts)])


def _section(each: Verdict, plain: Callable[[str], str]) -> str:
    parts = [[plain(part.name), part.verdict or NOT_COUNTED, number(part.value, part.interval), over(part.interval),
              plain(part.reason)] for part in each.parts]  # fmt: skip
    heads = ["part", "verdict", "number [95 %]", "interval over", "held against"]
    lines = [f"### {each.id}: {each.verdict}", "", f"{each.statement} ({each.source})", "", f"Test: {each.test}", ""]
    return "\n".join([*lines, _table(parts, heads), "", f"Runs: {', '.join(each.runs) or 'none'}.", ""])


def _table(rows: list[list[str]], heads: list[str]) -> str:
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    return pd.DataFrame(escaped, columns=heads).to_markdown(index=False, disable_numparse=True)


def to_csv(verdicts: Iterable[Verdict]) -> str:
    """A line per claim, its part empty, and below it a line per part."""
    lines = []
    for each in verdicts:
        lines.append(_line(each.id, "", each) | {"statement": each.statement, "source": each.source})
        lines += [_line(each.id, part.name, part) for part in each.parts]
    counts = {"prompts": "Int64", "seeds": "Int64"}
    return pd.DataFrame(lines).astype(counts).to_csv(index=False, lineterminator="\n")


def _line(id: str, part: str, of: Verdict | Part) -> dict[str, Any]:
    ends = asdict(of.interval) if of.interval else {}
    ends = {key: ends.get(key) for key in ("low", "high", "level", "over", "prompts", "seeds")}
    ends["prompts"] = ends["prompts"] or None  # an interval over updates has none
    return {"id": id, "part": part, "verdict": of.verdict, "value": of.value, **ends, "reason": of.reason,
            "runs": " ".join(of.runs)}  # fmt: skip


def to_json(study: Study, verdicts: Iterable[Verdict]) -> str:
    """Everything, with what it speaks of; a number that is not finite is null."""
    claims = [asdict(each) for each in verdicts]
    for part in (part for each in claims for part in each["parts"]):
        del part["slack"]
    content = {"about": about(study), "scale": study.scale, "protocol": study.protocol, "rules": RULES}
    return json.dumps(_finite(content | {"claims": claims}), indent=1, ensure_ascii=False) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write(study: Study, verdicts: tuple[Verdict, ...], activity: pd.DataFrame, out: Path) -> list[Path]:
    """claims.md, claims.csv, claims.json, and claims_clipping.csv with the shares of C5 by side, sign and step."""
    files = {
        "claims.md": to_markdown(study, verdicts),
        "claims.csv": to_csv(verdicts),
        "claims.json": to_json(study, verdicts),
        "claims_clipping.csv": activity.to_csv(index=False, lineterminator="\n"),
    }
    for name, content in files.items():
        (out / name).write_text(content, encoding="utf-8", newline="\n")
    return [out / name for name in files]
