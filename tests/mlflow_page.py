"""MLflow's page in a browser. `python tests/mlflow_page.py LINK FILE` takes the picture of a `make ui` that runs."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium")
PATIENCE = 90  # seconds; the server takes 4 on an idle machine, 25 on a busy one
CURVES = "document.querySelector('.js-plotly-plot').data.map(each => [each.name, each.x, each.y, each.line.dash])"
TITLE = "document.querySelector('.js-plotly-plot').layout.xaxis.title.text"
ASSISTANT = {"mlflow.assistant.fab.autoOpenedOnFirstLoad_v1": "true"}  # else it opens over the chart


def recipe(runs: Path, port: int) -> list[list[str]]:
    """The commands of `make ui`, with this Python's own programs."""
    asked = ["make", "-n", "-o", "setup", "ui", f"RUNS={runs}", f"PORT={port}", f"BIN={Path(sys.executable).parent}"]
    lines = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return [["env", *line.split()] for line in lines if "ledger" in line or "mlflow ui" in line]


@contextmanager
def started(command: list[str], page: str) -> Iterator[None]:
    server = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        deadline = time.monotonic() + PATIENCE
        while not answers(page):
            assert server.poll() is None and time.monotonic() < deadline, "the server does not answer"
            time.sleep(0.2)
        yield
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)


def answers(page: str) -> bool:
    try:
        with urllib.request.urlopen(f"{page}/health", timeout=5) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


@contextmanager
def opened(link: str, problems: list[str]) -> Iterator[Any]:
    """A page on which the curves of `link` are drawn; what goes wrong in it is added to `problems`."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright drives the browser")
    with sync_api.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 720}, device_scale_factor=1.25)
        page.add_init_script("".join(f"localStorage.setItem({k!r}, {v!r});" for k, v in ASSISTANT.items()))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("requestfailed", lambda asked: problems.append(asked.url))
        page.on("response", lambda reply: problems.append(reply.url) if reply.status >= 400 else None)
        page.goto(link, wait_until="domcontentloaded")
        page.wait_for_selector(".js-plotly-plot .scatterlayer .trace", timeout=PATIENCE * 1000)
        page.wait_for_function(f"{CURVES}.length >= 4", timeout=PATIENCE * 1000)
        yield page
        browser.close()


def drawn(link: str) -> tuple[list[Any], str, list[str]]:
    """The curves, the x axis' title, and what went wrong in the page."""
    problems: list[str] = []
    with opened(link, problems) as page:
        found = json.loads(page.evaluate(f"JSON.stringify({CURVES})")), page.evaluate(TITLE)
    return *found, [each for each in problems if "users/current" not in each]  # MLflow's own, without accounts


if __name__ == "__main__":
    with opened(sys.argv[1], []) as shown:
        shown.locator("button[aria-label*='idebar']").first.click()  # beside it the chart runs out of the window
        shown.wait_for_timeout(2000)  # lets it come to rest
        shown.screenshot(path=sys.argv[2], clip={"x": 0, "y": 0, "width": 1280, "height": 580})
