"""The page as a person has it: written by the command, opened from the disk in a Chromium whose network is cut."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import report_study
from browser import PHONE, Watched, at, chromium, needs_chromium, opened

pytestmark = pytest.mark.browser  # writing the report takes the fixture 17 s
WITNESS = (
    "import sys; from paper_tables.__main__ import main; from paper_tables.aside import aside;"
    "code = main(sys.argv[1:], aside);"
    "print(sorted({'torch', 'mlflow', 'diffusers', 'matplotlib.pyplot'} & set(sys.modules)), file=sys.stderr);"
    "sys.exit(code)"
)
LINES = """[...document.querySelectorAll('.chart .mark-line path')].filter(each => each.checkVisibility())
  .map(each => each.getAttribute('d')).sort()"""
RINGS = "document.querySelectorAll('.chart .mark-symbol path[opacity=\"1\"][stroke]').length"
PICTURES = "[...document.querySelectorAll('.picture')].map(e => e.style.backgroundPosition)"
# What a person can reach with the Tab key.
REACHABLE = """[...document.querySelectorAll('a[href], button, select, input, summary, [tabindex="0"]')]
  .filter(e => e.checkVisibility() && !e.disabled && !e.closest('[hidden]'))"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of the planted study."""
    root = tmp_path_factory.mktemp("report")
    runs = report_study.write(root / "runs")
    command = [sys.executable, "-c", WITNESS, "report", "--runs", str(runs), "--out", str(root)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stderr) == (0, "[]\n"), "no torch, and nothing else that the page does not need"
    assert done.stdout == f"Report: {root / 'report' / 'index.html'}\n"
    return root / "report"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.fixture
def watched(browser: Any, folder: Path) -> Iterator[Watched]:
    with opened(browser, at(folder / "index.html")) as found:
        drawn(found.page)
        yield found
        assert not found.complaints


def drawn(page: Any) -> float:
    """Milliseconds from opening the page until its curves stood there."""
    settle(page)
    return float(page.evaluate("performance.getEntriesByName('drawn')[0].startTime"))


def settle(page: Any) -> None:
    page.evaluate("new Promise(each => setTimeout(each)).then(() => page.settled())")


class Links(HTMLParser):
    """Ids, and what links, scripts and pictures name."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids, self.named, self.scripts = set[str](), set[str](), 0
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        self.ids |= {str(found["id"])} if "id" in found else set()
        self.named |= {str(found[key]) for key in ("href", "src") if found.get(key)}
        self.scripts += tag == "script"


def test_every_link_leads_to_a_place_or_a_file_and_markup_from_runs_is_words(folder: Path) -> None:
    found = Links((folder / "index.html").read_text())
    places = {name[1:] for name in found.named if name.startswith("#")}
    assert places <= found.ids and {f"runs-{row}" for row in report_study.GAINS} <= places
    beside = {name for name in found.named if not name.startswith(("#", "data:"))}
    assert {name for name in beside if not (folder / name).is_file()} == set()
    assert found.scripts == 5 and not {name for name in found.named if "onerror" in name or name == "x"}


def test_no_object_of_the_program_is_on_the_page(folder: Path) -> None:
    page = (folder / "index.html").read_text()
    assert "built-in" not in page and " at 0x" not in page


def test_every_chart_is_there_as_png_pdf_and_csv_of_its_points(folder: Path) -> None:
    for panel in ("sd3_text", "flux_geneval"):
        stem = folder / "files" / f"curves_{panel}"
        assert stem.with_suffix(".png").read_bytes()[:4] == b"\x89PNG"
        assert stem.with_suffix(".pdf").read_bytes()[:4] == b"%PDF"
        points = pd.read_csv(stem.with_suffix(".csv"))
        assert set(points["update"]) == set(report_study.UPDATES) and points["gold_low"].notna().all()


def test_the_page_without_its_pictures_is_under_5_megabytes(folder: Path) -> None:
    files = [path for path in folder.rglob("*") if path.is_file() and path.parent.name != "pictures"]
    assert sum(path.stat().st_size for path in files) < 5_000_000


@needs_chromium
def test_it_opens_without_a_network_in_2_seconds_and_asks_for_nothing_but_its_files(browser: Any, folder: Path) -> None:
    times = []
    for _ in range(3):
        with opened(browser, at(folder / "index.html")) as watched:
            times.append(drawn(watched.page))
            watched.page.evaluate(
                "Promise.all([...document.images].map(each => { each.loading = 'eager'; return each.decode(); }))"
            )
            assert not watched.complaints
            assert {address.split(":")[0] for address in watched.requests} <= {"file", "data"}
            assert watched.page.evaluate("window.taken") is None, "a prompt was run as a script"
    assert min(times) < 2000, times


@needs_chromium
def test_the_first_screen_says_for_whom_the_scores_parted(watched: Watched) -> None:
    lead = watched.page.locator(".lead")
    assert "FlowGRPO on tiny SD3 text" in lead.inner_text() and "GRPO-Guard" not in lead.inner_text()
    bottom = lead.bounding_box()["y"] + lead.bounding_box()["height"]
    assert bottom < 800 and watched.page.locator(".chart svg").first.bounding_box()["y"] < 800


@needs_chromium
def test_filters_and_axes_change_what_is_drawn_and_the_address_brings_it_back(
    watched: Watched, browser: Any, folder: Path
) -> None:
    page = watched.page
    every = page.evaluate(LINES)
    assert len(every) == 6  # three rows, proxy and gold
    page.locator(".chart .layer_5_marks path").last.hover(force=True)
    told = page.locator("#vg-tooltip-element").inner_text()
    assert "update" in told and "DanceGRPO" in told and "[" in told
    page.get_by_role("checkbox", name="FlowGRPO", exact=True).uncheck()
    settle(page)
    fewer = page.evaluate(LINES)
    assert len(fewer) == 4
    assert page.locator("[name=x] option[value=sqrt_kl]").count() == 0, "no run recorded its distance"
    page.locator("[name=x]").select_option("proxy")
    settle(page)
    against = page.evaluate(LINES)
    assert len(against) == 2 and not set(against) & set(fewer)
    page.locator("[name=seeds]").select_option("each")
    settle(page)
    assert len(page.evaluate(LINES)) == 4
    page.get_by_role("checkbox", name="tiny Flux").uncheck()
    settle(page)
    left = page.evaluate(LINES)
    assert len(left) == 2 and page.locator("#shown").inner_text() == "2 curves drawn."
    with opened(browser, page.url) as again:
        drawn(again.page)
        assert again.page.evaluate(LINES) == left
    page.get_by_role("button", name="Start again").click()
    settle(page)
    assert page.evaluate(LINES) == every


@needs_chromium
def test_the_slider_shows_other_pictures_with_the_scores_of_theirs(watched: Watched, folder: Path) -> None:
    page = watched.page
    assert page.locator("[name=group]").input_value() == "sd3/text", "where proxy and gold parted"
    last = page.evaluate(PICTURES)
    assert page.locator("#grid h3").all_inner_texts() == ["base model", "FlowGRPO", "GRPO-Guard"] * 2, "a seed in turn"
    assert len(last) == 6
    before, after = (
        [float(each) for each in page.locator(".strip dl").nth(n).locator("dd").all_inner_texts()] for n in (0, 1)
    )
    assert after[0] > before[0] and sum(after[1:]) < sum(before[1:]), "a picture whose proxy rose and whose gold fell"
    page.locator("[name=step]").fill("1")
    middle = page.evaluate(PICTURES)
    assert len(middle) == 6 and not set(middle[1:3] + middle[4:]) & set(last)
    golds = ["correctness", "cleanliness", "variety"]
    assert page.locator(".strip dl").nth(1).locator("dt").all_inner_texts() == ["text", *golds]
    scores = pd.read_parquet(folder.parent / "runs/sd3_flow_text/seed0/scores/update-000010.parquet")
    own = scores[
        (scores["scorer"] == "text")
        & (scores["prompt_id"] == page.locator("[name=prompt]").input_value())
        & (scores["seed"] == 0)
    ]
    assert page.locator(".strip dd.own").nth(1).inner_text() == f"{own['score'].item():.2f}"
    page.get_by_label("all steps").check()
    assert len(page.evaluate(PICTURES)) == 4 * len(report_study.UPDATES) + 2


@needs_chromium
def test_the_keyboard_reaches_everything_and_works_filter_slider_and_theme(watched: Watched) -> None:
    page = watched.page
    reachable = page.evaluate(f"{REACHABLE}.length")
    page.evaluate(f"{REACHABLE}.forEach((e, i) => {{ e.dataset.place = i; }})")
    reached = []
    for _ in range(reachable + 1):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.dataset.place ?? null"))
    assert {place for place in reached if place is not None} == {str(i) for i in range(reachable)}
    page.get_by_role("checkbox", name="GRPO-Guard", exact=True).focus()
    page.keyboard.press("Space")
    settle(page)
    assert len(page.evaluate(LINES)) == 4
    page.locator("[name=point]").focus()
    for _ in range(2):
        page.keyboard.press("ArrowRight")
    settle(page)
    assert page.locator("#reading").inner_text().startswith("Update 20: proxy 0.9")
    assert page.evaluate(RINGS) == 2, "the point is marked in both of its charts"
    ink = page.evaluate("document.querySelector('.mark-line path').getAttribute('stroke')")
    page.get_by_role("button", name="Dark").focus()
    page.keyboard.press("Enter")
    settle(page)
    assert page.evaluate("document.querySelector('.mark-line path').getAttribute('stroke')") != ink
    page.get_by_role("link", name="0.9").first.focus()
    page.keyboard.press("Enter")
    page.locator("details.row[open]").wait_for()


@needs_chromium
def test_no_rule_of_wcag_a_or_aa_is_broken_light_dark_or_on_a_phone(watched: Watched) -> None:
    page = watched.page
    page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true; })")
    assert broken(page) == ""
    page.emulate_media(color_scheme="dark")
    settle(page)
    assert broken(page, "color-contrast") == ""
    page.set_viewport_size(PHONE)
    settle(page)
    assert broken(page) == ""
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "it scrolls sideways"
    parts = page.locator("#claims .scroll")
    assert parts.evaluate_all("all => all.every(each => each.scrollWidth <= each.clientWidth)"), "parts are stacked"
    figure = page.locator(".printed .scroll").first
    assert figure.locator("img").bounding_box()["width"] > 600 > figure.bounding_box()["width"], "read by scrolling it"
    table = page.locator("#tables .scroll").first
    table.evaluate("each => { each.scrollLeft = 150; }")
    methods = table.locator("tbody th")
    assert methods.first.bounding_box()["x"] == table.bounding_box()["x"], "the first column stays"


def broken(page: Any, *rules: str) -> str:
    """What axe-core finds wrong by the rules of WCAG 2.2 A and AA, or by `rules` alone."""
    from axe_playwright_python.sync_playwright import Axe

    asked = list(rules) or ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
    found = Axe().run(page, options={"runOnly": asked, "resultTypes": ["violations"], "preload": False})
    return found.generate_report() if found.violations_count else ""
