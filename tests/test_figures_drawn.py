"""What the figures show is what their data say."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from fake_ledger import write_study
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import StepPatch
from scipy.optimize import isotonic_regression

from bench.experiments import ROWS, TABLE1, TABLE2, Pair
from paper_tables.bands import KEYS
from paper_tables.figure1 import figure1
from paper_tables.figure2 import figure2
from paper_tables.figure3 import figure3
from paper_tables.figure7 import figure7
from paper_tables.frame import Study, curves, diagnostics, read, seed_mean
from paper_tables.gradient import per_step
from paper_tables.log_ratio import histograms, moments
from paper_tables.palette import COLOURS
from paper_tables.style import canvas, save, spread, styled

PAIR = Pair(TABLE1["sd3_flow_text"], TABLE1["sd3_guard_text"])


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return read(write_study(tmp_path_factory.mktemp("runs"), tuple(ROWS)))


def titled(figure: Figure, title: str) -> Axes:
    return next(axes for axes in figure.findobj(Axes) if title in axes.get_title(loc="left"))


def curve(axes: Axes, method: str) -> np.ndarray:
    line = next(line for line in axes.lines if line.get_color() == COLOURS[method] and len(line.get_xdata()) > 1)
    return np.array(line.get_xydata())


def test_every_method_of_both_tables_has_its_own_colour() -> None:
    for table in (TABLE1, TABLE2):
        methods = {row.method for row in table.values() if row.recipe}
        assert len({COLOURS[method] for method in methods}) == len(methods)


def test_figure7_draws_the_gold_average_of_every_row_of_table2(study: Study) -> None:
    frame = seed_mean(curves(study), study)
    axes = titled(figure7(frame, study.golds), "gold average")
    # gold falls by a quarter of share^2 at shares 0, 1/2 and 1 of training
    assert curve(axes, "FlowGRPO")[:, 1] == pytest.approx([1, 1 - 0.25 / 4, 0.75])
    assert {text.get_text() for text in axes.texts} == {row.method for row in TABLE2.values()}


def test_figure7_names_the_rows_that_were_not_run(study: Study) -> None:
    frame = seed_mean(curves(study), study)
    figure = figure7(frame[~frame["row"].isin(["ablation_ratio_norm", "sd3_guard_text"])], study.golds)
    words = [text.get_text() for part in figure.subfigs for text in part.texts]
    assert words == ["not run: RatioNorm, GRPO-Guard"]


def test_figure1_names_in_each_panel_what_was_not_run(study: Study) -> None:
    frame = seed_mean(curves(study), study)
    figure = figure1(frame[frame["row"] != "flux_dance_text"], PAIR)
    words = {axes.get_title(loc="left"): [t.get_text() for t in axes.texts] for axes in figure.axes[:5]}
    assert words.pop("flux text") == ["not run: DanceGRPO"]
    assert not any(words.values())


def test_figure1_has_its_panels_in_the_order_of_the_tables_pairs_and_the_intervals_of_each_end(study: Study) -> None:
    frame = seed_mean(curves(study), study)
    known = {"proxy_low": 0.4, "proxy_high": 0.8, "gold/average_low": 0.6, "gold/average_high": np.nan}
    figure = figure1(frame.assign(**known), PAIR)
    places = ["sd3 geneval", "sd3 pickscore", "sd3 text", "flux geneval", "flux text"]
    assert [axes.get_title(loc="left") for axes in figure.axes[:5]] == places
    end = curve(titled(figure, "flux geneval"), "DanceGRPO")[-1]
    first, *_ = (part.get_segments()[0] for part in titled(figure, "flux geneval").collections)
    assert first == pytest.approx(np.array([[0.4, end[1]], [0.8, end[1]]]))


def test_figure1_puts_gold_against_the_trained_proxy(study: Study) -> None:
    figure = figure1(seed_mean(curves(study), study), PAIR)
    found = curve(titled(figure, "flux geneval"), "DanceGRPO")
    # proxy 0.5 + 0.25 sqrt(share), gold 1 - 0.1 share^2
    proxy, gold = 0.5 + 0.25 * np.sqrt([0, 0.5, 1]), [1, 0.975, 0.9]
    assert found == pytest.approx(np.column_stack([proxy, gold]))


def test_a_band_is_of_the_change_since_the_base_model_and_the_figure_says_over_what(study: Study) -> None:
    frame = seed_mean(curves(study), study)
    ends = {f"{key}{end}": frame[key] + sign * 0.1 for key in KEYS for end, sign in (("_low", -1), ("_high", 1))}
    figure = figure7(frame.assign(**ends), study.golds)
    axes = titled(figure, "gold average")
    assert len(axes.collections) == len(TABLE2) and not titled(figure, "correctness / base").collections
    heights = np.array(axes.collections[0].get_paths()[0].vertices)[:, 1]
    assert (heights.min(), heights.max()) == pytest.approx((0.75 - 0.1, 1.1))
    words = [text.get_text() for part in figure.subfigs for text in part.texts]
    assert words[0] == "bands: 95 % intervals of the change since the base model, over prompts alone, of one seed"
    pair = figure1(frame.assign(**ends), PAIR)
    assert [len(titled(pair, title).collections) for title in ("proxy, sd3", "gold average / base, sd3")] == [2, 2]


def test_curves_of_several_seeds_are_drawn_as_their_mean(tmp_path: Path) -> None:
    study = read(write_study(tmp_path, ("sd3_base", "sd3_flow_text"), seeds=(0, 1, 2), diagnosed=False))
    frame = seed_mean(curves(study), study)
    found = curve(titled(figure7(frame, study.golds), "proxy"), "FlowGRPO")
    assert found[:, 1] == pytest.approx(0.61 + 0.35 * np.sqrt([0, 0.5, 1]))  # seeds lie 0.01 apart
    assert set(frame["seeds"]) == {3}


@pytest.mark.parametrize(("sign", "words"), [("negative", "advantage < 0"), ("positive", "advantage > 0")])
def test_figure2_keeps_the_signs_of_the_advantage_apart(study: Study, sign: str, words: str) -> None:
    lines = diagnostics(study.of([PAIR.base, PAIR.guard]))
    counts = histograms(lines)
    figure = figure2(counts[counts["sign"] == sign], moments(lines), PAIR)
    drawn = {axes.get_title(loc="left"): axes for axes in figure.axes}
    heights = {
        title: max(float(np.ptp(patch.get_data().values)) for patch in axes.patches if isinstance(patch, StepPatch))
        for title, axes in drawn.items()
        if "advantage" in title
    }
    assert all((height > 0) == (words in title) for title, height in heights.items())


def test_figure2_marks_the_clip_range_in_log_space(study: Study) -> None:
    lines = diagnostics(study.of([PAIR.base, PAIR.guard]))
    axes = titled(figure2(histograms(lines), moments(lines), PAIR), "FlowGRPO, clip 0.0001")
    marks = [float(np.array(line.get_xydata())[0, 0]) for line in axes.lines]
    assert math.log1p(1e-4) in marks and math.log1p(-1e-4) in marks


def test_figure2_draws_the_control_and_says_where_the_sum_over_d_was_not_recorded(study: Study) -> None:
    lines = diagnostics(study.of([PAIR.base, PAIR.guard]))
    frame = moments(lines)
    figure = figure2(histograms(lines), frame, PAIR)
    mean = titled(figure, "mean ratio - 1, mean over D")
    rings = [line for line in mean.lines if line.get_markerfacecolor() == "none"]
    control = frame[(frame["inner"] == 0) & (frame["method"] == "FlowGRPO")]["ratio_mean"] - 1
    assert len(rings) == 2 and np.array(rings[0].get_ydata()) == pytest.approx(control.to_numpy())
    assert [text.get_text() for text in titled(figure, "mean ratio, sum over D").texts] == ["not recorded"]
    recorded = figure2(histograms(lines), frame.assign(sum_mean=1.01, sum_se=0.01), PAIR)
    assert not titled(recorded, "mean ratio, sum over D").texts


def test_figure3_reaches_the_ratio_that_its_legend_says(study: Study) -> None:
    frame = per_step(diagnostics(study.of([PAIR.base, PAIR.guard])), PAIR)
    (axes,) = figure3(frame, PAIR).axes
    top = curve(axes, "FlowGRPO")[:, 1].max()
    legend = axes.get_legend()
    assert legend is not None
    words = [text.get_text() for text in legend.get_texts()]
    assert words[0] == f"FlowGRPO: max/min {top:.3g}x" and words[1] == "schedule alone: 26.1x"


def test_labels_are_pushed_apart_no_further_than_needed() -> None:
    assert spread(np.array([0.1, 0.5, 0.9]), 0.1) == pytest.approx([0.1, 0.5, 0.9])
    assert spread(np.array([0.5, 0.5, 0.9]), 0.1) == pytest.approx([0.45, 0.55, 0.9])
    draw = np.random.default_rng(0)
    for heights in (np.sort(draw.random(count)) for count in range(1, 9)):
        steps = 0.1 * np.arange(len(heights))
        assert spread(heights, 0.1) == pytest.approx(isotonic_regression(heights - steps).x + steps)


@styled
def test_a_figure_laid_out_once_is_the_one_that_is_laid_out_for_its_file(tmp_path: Path) -> None:
    def drawn() -> Figure:
        figure = canvas(2)
        for axes, ends in zip(figure.subplots(1, 2), ((0, 1), (1e-7, 3e-7)), strict=True):
            axes.plot(ends, ends)
            axes.set_title("a title of some length", loc="left")
        return figure

    drawn().savefig(tmp_path / "plain.png")
    made, _ = save(drawn(), tmp_path / "made")
    assert made.read_bytes() == (tmp_path / "plain.png").read_bytes()
