"""Every row composes at both scales, and methods that are compared differ in their recipes alone."""

from __future__ import annotations

import functools
from dataclasses import asdict, fields

import pytest
from hydra import compose, initialize_config_module

import baselines
from bench import config
from bench.config import Config, ConfigError
from bench.experiments import ROWS, Row
from bench.session import recipe_of
from bench.suite import configure

LATENT_ELEMENTS = 65_536  # 16 x 64 x 64 at 512 pixels


@functools.cache
def composed(row: str, scale: str, *more: str) -> Config:
    return configure(row, [f"scale={scale}", *more])


@pytest.mark.parametrize("scale", ["tiny", "paper"])
@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_every_row_composes_at_both_scales(row: Row, scale: str) -> None:
    settings = composed(row.name, scale)
    recipe = recipe_of(settings, row)
    assert (recipe is None) == (not row.recipe)
    assert row.backbone in settings.backbones
    assert not row.task or row.task in settings.tasks
    assert settings.sampling.group_size % (recipe.plan.branches if recipe else 1) == 0


def test_paper_scale_takes_the_papers_updates_and_tiny_its_own() -> None:
    for row in ROWS.values():
        assert config.planned_updates(composed(row.name, "paper"), row) == row.paper_updates
        assert config.planned_updates(composed(row.name, "tiny"), row) <= 120


def test_clip_ranges_are_the_sources_at_paper_scale_and_follow_the_latent_size_at_tiny() -> None:
    scaled = (LATENT_ELEMENTS / 512) ** 0.5
    for name, clip in {"sd3_flow_text": 1e-4, "sd3_guard_text": 2e-6, "sd3_guard_pickscore": 4e-6}.items():
        paper, tiny = (recipe_of(composed(name, scale), ROWS[name]) for scale in ("paper", "tiny"))
        assert paper and tiny
        assert paper.clip == pytest.approx(clip)
        assert tiny.clip == pytest.approx(clip * scaled, rel=2e-3)


def test_paired_rows_differ_in_their_recipes_alone() -> None:
    one, other = (asdict(composed(row, "tiny")) for row in ("sd3_flow_text", "sd3_guard_text"))
    assert {key for key in one if one[key] != other[key]} == {"row"}


def test_guarded_rows_differ_from_their_base_in_four_columns() -> None:
    for name in ("flow_grpo", "dance_grpo"):
        base, guarded = baselines.RECIPES[name], baselines.RECIPES[f"guard_{name}"]
        changed = {f.name for f in fields(base) if getattr(base, f.name) != getattr(guarded, f.name)}
        assert changed == {"name", "log_ratio", "step_weight", "clip"}


@pytest.mark.parametrize("override", ["seed=one", "sampling.stepz=3", "scale=huge"])
def test_a_wrong_type_key_or_option_is_refused_by_name(override: str) -> None:
    with pytest.raises(ConfigError, match=override.split("=")[0].split(".")[-1]):
        composed("sd3_flow_text", "tiny", override)


def test_rows_that_are_composed_together_are_those_that_hydra_composes_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    config.register()
    asked = ["scale=paper", "protocol=released", "seed=3"]
    for row, force in (("sd3_temp_text", "0"), ("flux_dance_text", "again"), ("sd3_temp_text", "1")):
        monkeypatch.setenv("FORCE", force)
        with initialize_config_module("bench.conf", version_base="1.3"):
            alone = config.plain(compose("train", [f"row={row}", *asked]))
        assert configure(row, asked) == alone
        assert (alone.row, alone.force) == (row, force)
