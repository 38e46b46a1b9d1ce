"""From a study to the page's HTML."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jinja2
import pandas as pd

from bench.experiments import BACKBONES, EXTRA, GUARD, PAIRS, PROXIES, TABLE1, TABLE2
from paper_tables import beside, claims, comparisons, table1
from paper_tables.claims import pages
from paper_tables.claims.verdict import RULES, SEEDS_NEEDED, VERDICTS
from paper_tables.claims.words import ABOUT_NOT_COUNTED, NOT_COUNTED, reader
from paper_tables.frame import Study
from paper_tables.report import answer, charts, pictures, provenance, standing
from paper_tables.report.answer import Finding, signed
from paper_tables.report.inks import INKS, inks
from paper_tables.report.points import ALL, AXES, records
from paper_tables.statistics.bootstrap import PROMPTS, Interval
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
    "The proxy is the reward that a row, a method on a backbone, was trained on; gold scores judge the same pictures, "
    "and are no row's reward. Either rose or fell where the 95 % interval of its change since the base model, "
    "drawn as a band, leaves out 0. Parted: the proxy rose and the gold average fell."
)
# Methods that are drawn when they are ticked, and do not count above: those of the ablation and of the rows beside.
ASIDE = {row.method for row in (*TABLE2.values(), *EXTRA.values())} - {row.method for row in TABLE1.values()}
# Backbones and tasks in the order of Table 1's pairs.
PLACES = tuple((pair.guard.backbone, pair.guard.task) for pair in PAIRS)
# Said once, on the first screen: a table's note of what its brackets hold, and a claim's reason that seeds are few.
BRACKETS = "In brackets: "
FEW_SEEDS = re.compile(rf"(?:one seed: the interval is over prompts alone|\d+ seeds), wanted {SEEDS_NEEDED} \((.*?)\)")
UNDECIDED = (
    f"With fewer than {SEEDS_NEEDED} seeds a claim about scores is underpowered; what its interval alone would say "
    "stands with it."
)


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
    rows = provenance.by_row(study)
    run_places = {run["id"]: row["anchor"] for row in rows for run in row["runs"]}
    return {
        "title": f"Did the proxy and the gold scores part? GRPO-Guard, {study.scale} scale",
        "scale": study.scale,
        "protocol": study.protocol,
        "seeds": standing.in_short(study),
        "sections": SECTIONS,
        "tables": _tables(study),
        "figures": figures,
        "picture_groups": groups(strips, findings, study.golds),
        "provenance": rows,
        "places": {row["name"]: row["anchor"] for row in rows},
        "run_places": run_places,
        "run_count": len(study.runs),
        **_curves(study, findings, found, strips),
        **_claims(study, verdicts, run_places),
    }


def _curves(study: Study, findings: list[Finding], found: pd.DataFrame, strips: list[dict[str, Any]]) -> dict[str, Any]:
    """What is said and drawn of the curves, the words of their filters, and the data of the page's scripts."""
    backbones = BACKBONES[study.scale]
    methods = sorted({each.method for each in findings}, key=_place)
    main = [method for method in methods if method not in ASIDE] or methods
    shown = [each for each in findings if each.method in main]
    seeds = sorted(set(found["seed"]) - {ALL}, key=int)
    axes = {key: words for key, words in AXES.items() if found[key].notna().any()}
    look = {"chart": charts.template(), "chart_config": charts.CONFIG, "themes": charts.THEMES}
    return {
        "lead": answer.lead(shown, backbones),
        "reading": f"{READING} {standing.trust(study, shown, backbones)}".replace(" %", "\u00a0%"),
        "undrawn": [method for method in methods if method not in main],
        "absent_bases": standing.absent_bases(study, backbones),
        "axes": axes,
        "backbones": {key: words for key, words in backbones.items() if key in {each.backbone for each in findings}},
        "tasks": [task for task in PROXIES if task in {each.task for each in findings}],
        "methods": methods,
        "main_methods": main,
        "seed_list": seeds if len(seeds) > 1 else [],
        "panels": panels(findings, backbones, found),
        "curve_lines": records(found[found["seed"] == ALL]),
        "signed": signed,
        "span": _span,
        "number": _number,
        "data": {"points": records(found), "axes": AXES, "backbones": backbones, "inks": inks(methods),
                 "proxies": PROXIES, "pictures": sorted(strips, key=in_turn), **look},
    }  # fmt: skip


def in_turn(strip: dict[str, Any]) -> tuple[int, int]:
    """Of a seed first the base model, then a base method, then GRPO-Guard on it, then the others."""
    first = ("FlowGRPO", "DanceGRPO", GUARD)
    turn = -1 if not strip["task"] else first.index(strip["method"]) if strip["method"] in first else len(first)
    return int(strip["seed"]), turn


def panels(findings: list[Finding], backbones: dict[str, str], found: pd.DataFrame) -> list[dict[str, Any]]:
    """A panel per backbone and task of trained rows of which there is a point, in the order of PLACES."""
    made = []
    parts = {(str(backbone), str(task)): part for (backbone, task), part in found.groupby(["backbone", "task"])}
    for backbone, task in sorted(parts, key=_turn):
        points = parts[backbone, task]
        mine = [each for each in findings if (each.backbone, each.task) == (backbone, task)]
        if not mine:
            continue
        name = f"{backbones[backbone]}, {task}"
        said = {y: "; ".join(f"{each.method} {signed(getattr(each, y))}" for each in mine) for y in ("proxy", "gold")}
        made.append({
            "id": f"panel-{backbone}-{task}", "stem": f"curves_{backbone}_{task}", "backbone": backbone, "task": task,
            "name": name, "findings": mine, "drawn": [y for y in said if points[y].notna().any()],
            "alt_proxy": f"{task} proxy over training on {name}. Change since the base model: {said['proxy']}.",
            "alt_gold": f"Gold average over training on {name}. Change since the base model: {said['gold']}.",
        })  # fmt: skip
    return made


def _turn(place: tuple[str, str]) -> tuple[int, tuple[str, str]]:
    return (PLACES.index(place) if place in PLACES else len(PLACES), place)


def _place(method: str) -> tuple[int, str]:
    """Known methods first, in the order of their inks."""
    known = list(INKS)
    return (known.index(method) if method in known else len(known), method)


def _tables(study: Study) -> list[tuple[str, Table]]:
    """Each table and the name of its files: ours and the printed one, then what stands beside Table 1."""
    ours, *printed = beside.tables(study)
    others = (("differences", comparisons.differences(study)), ("wins", comparisons.wins_table(study)),
              ("extra", table1.extra(study)))  # fmt: skip
    found = [("table1", ours), *((stem, each) for stem, each in others if each)]
    found += [("table1_printed", each) for each in printed]
    said = (BRACKETS,) if standing.alike(study) else ()
    return [(stem, replace(each, notes=tuple(n for n in each.notes if not n.startswith(said)))) for stem, each in found]


def _claims(study: Study, verdicts: tuple[claims.Verdict, ...], places: dict[str, str]) -> dict[str, Any]:
    counts, plain = Counter(each.verdict for each in verdicts), reader(study)
    few = any(FEW_SEEDS.search(each.reason) for each in verdicts)
    return {
        "claims": [_claim(each, places, plain) for each in verdicts],
        "claims_reading": f"{pages.about(study)} {UNDECIDED * few}",
        "rules": RULES,
        "tally": {verdict: counts[verdict] for verdict in VERDICTS if counts[verdict]},
    }


def _claim(verdict: claims.Verdict, places: dict[str, str], plain: Callable[[str], str]) -> dict[str, Any]:
    """A verdict with its numbers as words, and the places of its rows."""
    rows = {places[run]: run for run in verdict.runs if run in places}
    parts = [
        {"name": plain(part.name), "verdict": part.verdict or NOT_COUNTED,
         "shown": pages.number(part.value, part.interval), "over": pages.over(part.interval),
         "reason": plain(reason_of(part.reason))}
        for part in verdict.parts
    ]  # fmt: skip
    return vars(verdict) | {
        "shown": pages.number(verdict.value, verdict.interval) if verdict.value is not None else "",
        "over": pages.over(verdict.interval),
        "of": plain(verdict.of),
        "reason": plain(reason_of(verdict.reason.removeprefix(f"{verdict.of}: "))),
        "parts": parts,
        "note": "" if all(part.verdict for part in verdict.parts) else ABOUT_NOT_COUNTED,
        "rows": [(plain(place.removeprefix("runs-")), place) for place in rows],
    }


def reason_of(reason: str) -> str:
    """The reason without what is said once for all claims."""
    return FEW_SEEDS.sub(r"\1", reason)


def groups(strips: list[dict[str, Any]], findings: list[Finding], golds: tuple[str, ...]) -> list[dict[str, str]]:
    """The backbones and tasks of which there are pictures, each with the prompt that is shown first.

    First stands where proxy and gold parted, the furthest fall of gold before the others.
    """
    parted: dict[tuple[str, str], list[Finding]] = {}
    for each in findings:
        if each.verdict == answer.PARTED:
            parted.setdefault((each.backbone, each.task), []).append(each)
    falls = {place: min(each.gold.value for each in found if each.gold) for place, found in parted.items()}
    places = {(strip["backbone"], strip["task"]) for strip in strips if strip["task"]}
    made = []
    for place in sorted(places, key=lambda place: (falls.get(place, 0.0), _turn(place))):
        rows = {each.row for each in parted.get(place, [])}
        prompt = pictures.telling(strips, *place, rows, golds)
        made.append({"backbone": place[0], "task": place[1], "prompt": prompt})
    return made


def _number(value: float | None) -> str:
    return "not recorded" if value is None else f"{value:.2f}"


def _span(point: dict[str, Any], name: str) -> str:
    """The point's value with its interval, as `Interval.display` has it."""
    value, low, high = (point[name + end] for end in ("", "_low", "_high"))
    if low is None:
        return _number(value)
    return Interval(value, low, high, PROMPTS, 0, 0).display()
