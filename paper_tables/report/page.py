"""From a study to the page's HTML."""

from __future__ import annotations

from collections import Counter
from typing import Any

import jinja2
import pandas as pd

from paper_tables import beside, claims, comparisons, table1
from paper_tables.claims import pages
from paper_tables.claims.verdict import RULES, VERDICTS
from paper_tables.frame import Study
from paper_tables.report import answer, charts, provenance
from paper_tables.report.answer import Finding, signed
from paper_tables.report.inks import INKS, inks
from paper_tables.report.points import ALL, AXES, records
from paper_tables.statistics.coverage import coverage_at
from paper_tables.table import Table

SECTIONS = (
    ("answer", "Curves"),
    ("tables", "Table 1"),
    ("figures", "Figures"),
    ("pictures", "Pictures"),
    ("claims", "Claims"),
    ("provenance", "Provenance"),
)
READING = (
    "Parted: the interval of the proxy's change since the base model lies above 0, that of the gold average's below. "
    "Unclear: both hold 0. Bands are intervals of the change since the base model."
)
# Method rows that are drawn without being asked for; the ablation's come when they are ticked.
MAIN = ("FlowGRPO", "DanceGRPO", "TempFlowGRPO", "GRPO-Guard")


def render(context: dict[str, Any]) -> str:
    """The page; whatever comes from runs is escaped."""
    loader = jinja2.PackageLoader("paper_tables.report")
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.policies["json.dumps_kwargs"] = {}  # the order of scores and methods is ours, not the alphabet's
    return environment.get_template("index.html.j2").render(context)


def context(
    study: Study, findings: list[Finding], found: pd.DataFrame, verdicts: tuple[claims.Verdict, ...],
    strips: list[dict[str, Any]], figures: list[dict[str, Any]],
) -> dict[str, Any]:  # fmt: skip
    """Everything that the templates name.

    Args:
        findings: as `answer.findings` gives them.
        found: as `points.points` gives them.
        verdicts: of the claims.
        strips: as `pictures.strips` gives them.
        figures: as `figures.printed` gives them.
    """
    seeds = sorted({int(run.info["seed"]) for run in study.runs})
    rows = provenance.by_row(study)
    run_places = {run["id"]: row["anchor"] for row in rows for run in row["runs"]}
    return {
        "title": f"Did the proxy and the gold scores part? GRPO-Guard, {study.scale} scale",
        "scale": study.scale,
        "protocol": study.protocol,
        "seeds": f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}",
        "sections": SECTIONS,
        "reading": f"{READING} {_trust(len(seeds))}".replace(" %", "\u00a0%"),
        "tables": _tables(study),
        "figures": figures,
        "picture_groups": _groups(strips),
        "provenance": rows,
        "places": {row["name"]: row["anchor"] for row in rows},
        "run_places": run_places,
        "run_count": len(study.runs),
        **_curves(study, findings, found, seeds, strips),
        **_claims(study, verdicts, run_places),
    }


def _curves(
    study: Study, findings: list[Finding], found: pd.DataFrame, seeds: list[int], strips: list[dict[str, Any]]
) -> dict[str, Any]:
    """What is said and drawn of the curves, the words of their filters, and the data of the page's scripts."""
    backbones = table1.BACKBONES[study.scale]
    methods = sorted({each.method for each in findings}, key=_place)
    drawn = {"chart": charts.template(), "chart_config": charts.CONFIG, "themes": charts.THEMES}
    return {
        "lead": answer.lead(findings, backbones),
        "axes": AXES,
        "backbones": {key: words for key, words in backbones.items() if key in {each.backbone for each in findings}},
        "tasks": list(dict.fromkeys(each.task for each in findings)),
        "methods": methods,
        "main_methods": [method for method in methods if method in MAIN or method not in INKS] or methods,
        "seed_list": seeds if len(seeds) > 1 else [],
        "panels": panels(findings, backbones),
        "curve_lines": records(found[found["seed"] == ALL]),
        "signed": signed,
        "span": _span,
        "number": _number,
        "data": {"points": records(found), "axes": AXES, "backbones": backbones, "inks": inks(methods),
                 "pictures": strips, **drawn},
    }  # fmt: skip


def panels(findings: list[Finding], backbones: dict[str, str]) -> list[dict[str, Any]]:
    """A panel per backbone and task, in the order of the rows."""
    made = []
    for backbone, task in dict.fromkeys((each.backbone, each.task) for each in findings):
        mine = [each for each in findings if (each.backbone, each.task) == (backbone, task)]
        name = f"{backbones[backbone]}, {task}"
        said = {y: "; ".join(f"{each.method} {signed(getattr(each, y))}" for each in mine) for y in ("proxy", "gold")}
        made.append({
            "id": f"panel-{backbone}-{task}", "stem": f"curves_{backbone}_{task}", "backbone": backbone, "task": task,
            "name": name, "findings": mine,
            "alt_proxy": f"{task} proxy over training on {name}. Change since the base model: {said['proxy']}.",
            "alt_gold": f"Gold average over training on {name}. Change since the base model: {said['gold']}.",
        })  # fmt: skip
    return made


def _place(method: str) -> tuple[int, str]:
    """Known methods first, in the order of their inks."""
    known = list(INKS)
    return (known.index(method) if method in known else len(known), method)


def _trust(seeds: int) -> str:
    """Over what the intervals are, and how often such intervals hold the truth."""
    held = f"In simulated studies about {100 * coverage_at(seeds):.0f} % of such 95 % intervals held the truth."
    if seeds > 1:
        return f"Intervals are over prompts and {seeds} seeds. {held}"
    return f"One seed: intervals are over prompts alone and say nothing of another training run. {held}"


def _tables(study: Study) -> list[tuple[str, Table]]:
    """Each table and the name of its files: ours and the printed one, then what stands beside Table 1."""
    ours, *printed = beside.tables(study)
    others = (("differences", comparisons.differences(study)), ("wins", comparisons.wins_table(study)),
              ("extra", table1.extra(study)))  # fmt: skip
    found = [("table1", ours), *((stem, each) for stem, each in others if each)]
    return found + [("table1_printed", each) for each in printed]


def _claims(study: Study, verdicts: tuple[claims.Verdict, ...], places: dict[str, str]) -> dict[str, Any]:
    counts = Counter(each.verdict for each in verdicts)
    return {
        "claims": [_claim(each, places) for each in verdicts],
        "claims_reading": pages.about(study),
        "rules": RULES,
        "tally": {verdict: counts[verdict] for verdict in VERDICTS if counts[verdict]},
    }


def _claim(verdict: claims.Verdict, places: dict[str, str]) -> dict[str, Any]:
    """A verdict with its numbers as words, and the places of its rows."""
    rows = {places[run]: run for run in verdict.runs if run in places}
    parts = [
        {"name": part.name, "verdict": part.verdict or "beside", "shown": pages.number(part.value, part.interval),
         "over": pages.over(part.interval), "reason": part.reason}
        for part in verdict.parts
    ]  # fmt: skip
    return vars(verdict) | {
        "shown": pages.number(verdict.value, verdict.interval) if verdict.value is not None else "",
        "over": pages.over(verdict.interval),
        "parts": parts,
        "rows": [(place.removeprefix("runs-"), place) for place in rows],
    }


def _groups(strips: list[dict[str, Any]]) -> list[dict[str, str]]:
    """The backbones and tasks of which there are pictures, in the order of the runs."""
    trained = [(strip["backbone"], strip["task"]) for strip in strips if strip["task"]]
    return [{"backbone": backbone, "task": task} for backbone, task in dict.fromkeys(trained)]


def _number(value: float | None) -> str:
    return "not recorded" if value is None else f"{value:.2f}"


def _span(point: dict[str, Any], name: str) -> str:
    """The point's value with its interval, as `Interval.display` has it."""
    value, low, high = (point[name + end] for end in ("", "_low", "_high"))
    return _number(value) + (f" [{low:.2f}, {high:.2f}]" if low is not None else "")
