"""The report's parts: what is said, what is drawn, and what an interruption leaves."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from fake_scores import golds, memory_study
from numpy.typing import NDArray

from bench.experiments import ROWS
from paper_tables import report, statistics
from paper_tables.claims.verdict import Effect, larger
from paper_tables.frame import Study
from paper_tables.report import answer, page, pictures, provenance, standing
from paper_tables.report.answer import Finding, lead, signed
from paper_tables.report.inks import INKS, inks
from paper_tables.report.points import ALL, points, records
from paper_tables.statistics.bootstrap import Interval
from paper_tables.statistics.outcomes import difference

UPDATES = (0, 10, 20)


def levels(seed: int, gain: float = 0.0) -> NDArray[np.float64]:
    """(P, G) scores, the same noise in every row of a seed."""
    draw = np.random.default_rng(seed)
    return 0.5 + gain + 0.05 * draw.standard_normal((24, 1)) + 0.01 * draw.standard_normal((24, 2))


def planted(**gains: tuple[float, float]) -> Study:
    """Rows whose proxy and golds gain linearly over training, under two seeds."""
    runs = {}
    for seed in (0, 1):
        for row, (proxy, gold) in {"sd3_base": (0.0, 0.0), **gains}.items():
            steps = UPDATES if row != "sd3_base" else (0,)
            at = {u: {"text": levels(seed, u / 20 * proxy), **golds(levels(seed + 9, u / 20 * gold))} for u in steps}
            runs[row, seed] = at
    study = memory_study(runs)
    told = {name: {"method": ROWS[name].method, "config": {}, "setting": ROWS[name].setting} for name in ROWS}
    return Study("tiny", tuple(replace(run, info=run.info | told[run.info["row"]]) for run in study.runs))


def change(value: float, half: float = 0.1) -> Interval:
    return Interval(value, value - half, value + half, "prompts", 40, 1)


def finding(proxy: float, gold: float) -> Finding:
    return Finding("row", "FlowGRPO", "sd3", "text", change(proxy), change(gold))


@pytest.mark.parametrize(
    ("proxy", "gold", "verdict"),
    [
        (0.3, -0.3, "parted"),
        (0.3, 0.3, "both rose"),
        (-0.3, -0.3, "both fell"),
        (0.3, 0.05, "only the proxy rose"),
        (0.05, -0.3, "only gold fell"),
        (0.05, -0.05, "no clear change"),
    ],
)
def test_scores_parted_only_where_both_intervals_say_so(proxy: float, gold: float, verdict: str) -> None:
    assert finding(proxy, gold).verdict == verdict


def test_what_was_planted_is_found_and_named_in_the_answer() -> None:
    found = answer.findings(planted(sd3_flow_text=(0.2, -0.2), sd3_guard_text=(0.2, 0.2)))
    assert {each.row: each.verdict for each in found} == {"sd3_flow_text": "parted", "sd3_guard_text": "both rose"}
    said = lead(found, {"sd3": "tiny SD3"})
    assert said == "They parted in 1 of 2 trained rows: FlowGRPO on tiny SD3 text. In the others: both rose in 1."


def test_every_word_for_what_became_of_a_row_is_one_that_the_first_screen_defines() -> None:
    words = {answer.PARTED, answer.UNCLEAR, answer.UNTOLD, *answer.VERDICTS.values()}
    rest = {word for each in words - {answer.UNCLEAR, answer.UNTOLD} for word in each.replace(",", "").split()}
    assert rest == {"parted", "both", "only", "the", "proxy", "gold", "rose", "fell"}
    assert all(
        f"{word} " in page.READING.lower() for word in ("the proxy is", "gold scores", "rose or fell", "parted:")
    )


def test_without_a_base_model_or_proxy_nothing_is_said() -> None:
    study = planted(sd3_flow_text=(0.2, -0.2))
    alone = Study("tiny", tuple(run for run in study.runs if run.info["task"]))
    (found,) = answer.findings(alone)
    assert (found.gold, found.proxy, found.verdict) == (None, None, "cannot be told")
    assert lead([found], {"sd3": "tiny SD3"}).startswith("In none of 1 trained row did they part beyond doubt: cannot")


def test_a_base_model_that_is_not_there_is_named_with_what_makes_it_and_scores_stand_for_changes(
    tmp_path: Path,
) -> None:
    study = planted(sd3_flow_text=(0.2, -0.2))
    names = {"sd3": "tiny SD3"}
    assert standing.absent_bases(study, names) == []
    alone = Study("tiny", tuple(run for run in study.runs if run.info["task"]))
    (told,) = standing.absent_bases(alone, names)
    assert told["commands"] == [f"python -m bench.train row=sd3_base seed={seed}" for seed in (0, 1)]
    assert (told["panels"], told["some"]) == ("tiny SD3, text", False)
    (found,) = answer.findings(alone)
    at_the_end = {name: score.value for name, score in found.scores}
    assert set(at_the_end) == {"text", "correctness", "cleanliness", "variety"}
    assert at_the_end["text"] == pytest.approx(0.7, abs=0.02)
    statistics.write(alone, tmp_path)
    (panel,) = page.panels([found], names, points(alone, tmp_path / "curves.csv"))
    assert panel["drawn"] == ["proxy"], "no empty chart of a gold average that does not exist"


def test_rows_beside_table_1_are_drawn_when_they_are_ticked_and_are_not_counted_above(tmp_path: Path) -> None:
    fell, rose = (0.2, -0.2), (0.2, 0.2)
    study = planted(sd3_flow_text=fell, sd3_guard_text=rose, sd3_flow_kl_text=fell, ablation_ratio_norm=fell)
    statistics.write(study, tmp_path)
    shown = page._curves(study, answer.findings(study), points(study, tmp_path / "curves.csv"), [])
    assert shown["main_methods"] == ["FlowGRPO", "GRPO-Guard"] and "in 1 of 2 trained rows" in shown["lead"]
    assert set(shown["undrawn"]) == {"FlowGRPO + KL", "RatioNorm"}


def test_how_often_intervals_hold_is_said_for_every_number_of_seeds() -> None:
    study = planted(sd3_flow_text=(0.2, -0.2))
    said = standing.trust(study, answer.findings(study), {"sd3": "tiny SD3"})
    assert said.endswith("in simulated studies, where the truth is known, they held it in 89 % with 2 seeds.")


def test_where_seeds_differ_each_row_has_its_own(tmp_path: Path) -> None:
    study = planted(sd3_flow_text=(0.2, -0.2), sd3_guard_text=(0.2, 0.2))
    names = {"sd3": "tiny SD3"}
    assert standing.in_short(study) == "seeds 0, 1"
    assert "over prompts and 2 seeds." in standing.trust(study, answer.findings(study), names)
    unfinished = study.of([ROWS["sd3_guard_text"]])[1]
    fewer = Study("tiny", tuple(run for run in study.runs if run is not unfinished))
    said = standing.trust(fewer, answer.findings(fewer), names)
    assert standing.in_short(fewer) == "seeds 0, 1 (1 to 2 a row)"
    assert "seeds 0, 1, but seed 0 of GRPO-Guard on tiny SD3 text." in said
    (lacking,) = standing.absent_bases(
        Study("tiny", tuple(run for run in study.runs if run.info["seed"] or run.info["task"])), names
    )
    assert lacking["some"] and lacking["commands"] == ["python -m bench.train row=sd3_base seed=0"]


def test_what_few_seeds_mean_is_said_once_for_all_claims() -> None:
    part = larger("a - b", change(0.3), Effect(0.2, "Table 1 prints"), ())
    assert "one seed: the interval is over prompts alone" in part.reason
    assert page.reason_of(part.reason).startswith("the interval alone: confirmed; wanted above 0")


def test_pictures_begin_with_the_base_model_and_a_guard_follows_its_base_method() -> None:
    methods = ("TempFlowGRPO", "GRPO-Guard", "FlowGRPO", "")
    strips = [{"seed": seed, "task": "text" * bool(name), "method": name} for name in methods for seed in (1, 0)]
    turns = [(strip["seed"], strip["method"]) for strip in sorted(strips, key=page.in_turn)]
    assert turns == [(seed, name) for seed in (0, 1) for name in ("", "FlowGRPO", "GRPO-Guard", "TempFlowGRPO")]


def strip(row: str, task: str, **scores: list[tuple[float, float]]) -> dict[str, Any]:
    """A strip of seed 0: by prompt (proxy, gold) at each evaluation."""
    prompts = [{"id": prompt, "text": prompt} for prompt in scores]
    at = [[{"text": proxy, "variety": gold} for proxy, gold in found] for found in scores.values()]
    return {"row": row, "backbone": "sd3", "task": task, "seed": 0, "prompts": prompts, "scores": at}


def test_the_prompt_that_is_shown_first_is_the_one_on_which_parting_is_seen_most() -> None:
    before = {prompt: [(0.5, 0.5)] for prompt in "abcd"}
    flow = {"a": [(0.5, 0.5), (0.4, 0.1)], "b": [(0.5, 0.5), (0.6, 0.3)], "c": [(0.5, 0.5), (0.6, 0.2)]}
    guard = {"a": [(0.5, 0.5), (0.6, 0.1)], "b": [(0.5, 0.5), (0.6, 0.4)], "c": [(0.5, 0.5), (0.6, 0.6)]}
    strips = [strip("base", "", **before), strip("flow", "text", **flow), strip("guard", "text", **guard)]
    first = partial(pictures.telling, strips, "sd3", "text", golds=("variety",))
    assert first(rows={"flow", "guard"}) == "b", "on both, though c falls further on one and a without a higher proxy"
    assert first(rows={"flow"}) == "c" and first(rows=set()) == "a"


def test_pictures_begin_where_proxy_and_gold_parted_furthest() -> None:
    found = [replace(finding(0.3, gold), task=task) for task, gold in (("geneval", -0.2), ("pickscore", -0.4))]
    strips = [strip("row", task, a=[(0.5, 0.5)]) for task in ("text", "geneval", "pickscore")]
    assert [each["task"] for each in page.groups(strips, found, ("variety",))] == ["pickscore", "geneval", "text"]


def test_a_change_has_its_sign_and_none_where_it_rounds_to_zero() -> None:
    assert signed(change(-0.2)) == "−0.20 [−0.30, −0.10]"
    assert signed(change(-0.001)) == "0.00 [−0.10, +0.10]"
    assert signed(change(0.104)) == "+0.10 [+0.004, +0.20]", "on which side of 0 it ends"
    assert signed(None) == "not measured"


def test_bands_are_of_the_change_since_the_base_model(tmp_path: Path) -> None:
    study = planted(sd3_flow_text=(0.2, -0.2))
    statistics.write(study, tmp_path)
    found = points(study, tmp_path / "curves.csv")
    mean = found[found["seed"] == ALL].set_index("update")
    for end in ("_low", "_high"):
        assert mean.loc[0, f"proxy{end}"] == pytest.approx(mean.loc[0, "proxy"])
        assert mean.loc[0, f"gold{end}"] == pytest.approx(1)
    whole = difference(study, "sd3_flow_text", "sd3_base", "proxy/text")
    assert whole is not None
    assert mean.loc[20, "proxy_low"] - mean.loc[0, "proxy"] == pytest.approx(whole.low, abs=1e-6)
    each = found[found["seed"] != ALL].groupby("update")["proxy"].mean()
    assert each.to_dict() == pytest.approx(mean["proxy"].to_dict())
    assert set(found["seed"]) == {ALL, "0", "1"}


def test_what_was_not_recorded_is_null_on_the_page() -> None:
    lines = records(pd.DataFrame({"sqrt_kl": [np.nan, 1 / 3], "method": ["a", "b"]}))
    assert lines == [{"sqrt_kl": None, "method": "a"}, {"sqrt_kl": 0.33333, "method": "b"}]


def test_no_two_methods_share_dash_and_marker_and_every_ink_is_seen_on_its_page() -> None:
    found = inks([*INKS, "half_guard", "someone's adapter"])
    assert len({(tuple(ink["dash"]), ink["shape"]) for ink in found.values()}) == len(found)
    for ink in found.values():
        assert contrast(ink["light"], "#fdfdfc") >= 3 and contrast(ink["dark"], "#15171b") >= 3, ink


def contrast(one: str, other: str) -> float:
    """WCAG 2.2's contrast ratio of two colours."""
    low, high = sorted(luminance(colour) for colour in (one, other))
    return (high + 0.05) / (low + 0.05)


def luminance(colour: str) -> float:
    parts = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def test_a_place_on_the_page_is_named_by_plain_letters() -> None:
    assert provenance.anchor('sd3_"><script>') == "runs-sd3_---script-"


def test_an_interrupted_report_leaves_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = planted(sd3_flow_text=(0.2, -0.2))
    monkeypatch.setattr(report, "_write", lambda study, folder, *_: (folder / "index.html").write_text("first"))
    report.write(study, tmp_path)

    def torn(study: Study, folder: Path, *_: object) -> None:
        (folder / "index.html").write_text("half")
        raise KeyboardInterrupt

    monkeypatch.setattr(report, "_write", torn)
    with pytest.raises(KeyboardInterrupt):
        report.write(study, tmp_path)
    assert (tmp_path / "report" / "index.html").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["report"]


def test_runs_without_pictures_have_no_strip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = planted(sd3_flow_text=(0.2, -0.2))
    assert pictures.strips(study, tmp_path) == []
