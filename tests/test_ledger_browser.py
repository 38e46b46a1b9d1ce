"""`make ui` in a real browser: a printed link opens the curves of two methods, with updates on the x axis."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from fake_ledger import UPDATES, write_run
from mlflow_page import CHROMIUM, ROOT, drawn, recipe, started

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM, reason="no chromium: apt-get install chromium, or CHROMIUM=FILE"),
]
DASHES = ("solid", "dash")  # of the first metric, and of the second


def test_a_link_that_make_ui_prints_draws_proxy_and_gold_of_both_methods_over_updates(
    tmp_path: Path, empty_store: Path
) -> None:
    shutil.copy(empty_store, tmp_path)
    for row in ("sd3_flow_text", "sd3_guard_text"):
        write_run(tmp_path, row, diagnosed=False)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    copied, printed, serve = recipe(tmp_path, port)
    subprocess.run(copied, cwd=ROOT, check=True, capture_output=True)
    said = subprocess.run(printed, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    (link,) = re.findall(r"http\S+", said)
    with started(serve, f"http://127.0.0.1:{port}"):
        curves, title, problems = drawn(link)
    assert (title, problems) == ("Step", [])
    shown = {(name, dash): list(zip(x, y, strict=True)) for name, x, y, dash in curves}
    assert set(shown) == {(f"{row} seed 0", dash) for row in ("sd3_flow_text", "sd3_guard_text") for dash in DASHES}
    # FlowGRPO's scores in the hand-made record: the proxy from 0.6 to 0.95, every gold down by a quarter.
    proxy, gold = (shown["sd3_flow_text seed 0", dash] for dash in DASHES)
    assert [update for update, _ in proxy] == [update for update, _ in gold] == list(UPDATES)
    assert (proxy[0][1], gold[0][1]) == (1, 1)
    assert (proxy[-1][1], gold[-1][1]) == pytest.approx((0.95 / 0.6, 0.75))
