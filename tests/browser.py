"""A real headless Chromium, driven by Playwright, for pages that are opened from a disk or from this machine."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

PROGRAM = os.environ.get("CHROMIUM") or shutil.which("chromium")
DESKTOP, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 844}
needs_chromium = pytest.mark.skipif(PROGRAM is None, reason="no chromium: apt-get install chromium, or CHROMIUM=FILE")


@dataclass
class Watched:
    """A page, and everything it complained of or asked for.

    Attributes:
        complaints: warnings and errors of the console, and exceptions that nobody caught.
        requests: addresses that were asked for.
    """

    page: Any
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


@contextmanager
def chromium() -> Iterator[Any]:
    """A running browser; without a sandbox, which root may not have."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=PROGRAM, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def opened(browser: Any, address: str, *, network: bool = False, **how: Any) -> Iterator[Watched]:
    """A fresh page at `address`; without `network`, whatever does not come from the disk is refused."""
    context = browser.new_context(**({"viewport": DESKTOP} | how))
    context.set_default_timeout(20_000)
    watched = Watched(context.new_page())
    page = watched.page
    page.on("console", lambda line: watched.complaints.append(line.text) if line.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: watched.complaints.append(str(error)))
    page.on("request", lambda request: watched.requests.append(request.url))
    if not network:
        context.set_offline(True)
        context.route("**/*", lambda route: route.continue_() if _of_disk(route.request.url) else route.abort())
    page.goto(address)
    yield watched
    context.close()


def _of_disk(address: str) -> bool:
    return address.startswith(("file://", "data:"))


def at(path: Path) -> str:
    """The address of a file."""
    return path.resolve().as_uri()
