"""The data file is what the renderer says today."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

import pytest

from bench.tiny import statistics
from gold_metrics.tiny_world import DATA, shipped


def shipped_data() -> dict[str, Any]:
    data: dict[str, Any] = json.loads(resources.files("gold_metrics").joinpath("data", DATA).read_text())
    return data


def test_the_data_file_holds_the_renderers_constants() -> None:
    constants = json.loads(json.dumps(statistics.constants()))
    assert {key: shipped_data()[key] for key in constants} == constants


def test_measuring_again_gives_the_shipped_spread() -> None:
    category = next(iter(statistics.by_category()))
    _, spread = statistics.measure(statistics.by_category()[category], shipped(), (statistics.SEED, 0))
    for aspect, references in shipped_data()["statistics"]["spread"][category].items():
        assert spread[aspect] == pytest.approx(references, rel=1e-3)
