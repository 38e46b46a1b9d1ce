"""Ranks share a run and change neither what it samples nor, beyond the order of a sum, what it learns."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from bench_runs import settings
from rank_probe import seen_by
from torch import Tensor

from bench.config import ConfigError
from bench.experiments import find_row
from bench.session import check_training, recipe_of

SIZES = ("sampling.micro_batch=3", "optim.micro_batch=3")
FULL = ("backbones.flux.train=full", "optim.rate=1e-4")
SAMPLED = ("state", "next", "mean", "final", "rewards")


def distance(one: Tensor, other: Tensor) -> float:
    return float((one.double() - other.double()).norm() / one.double().norm())


# Three shards of a weight are not equally large. DanceGRPO trains other steps of each member, so that ranks have
# unequal work; its reward here is not one number.
@pytest.mark.parametrize(
    ("row", "count", "options"),
    [("sd3_guard_pickscore", 2, ()), ("flux_guard_geneval", 3, (*FULL, "sampling.micro_batch=4"))],
    ids=["two ranks with an adapter", "three ranks that share all weights"],
)
def test_ranks_sample_the_same_bits_and_learn_the_same(
    row: str, count: int, options: tuple[str, ...], tmp_path: Path
) -> None:
    alone = seen_by(1, row, tmp_path / "alone", *SIZES, *options)
    shared = seen_by(count, row, tmp_path / "shared", *SIZES, *options)
    assert (alone["ranks"], shared["ranks"]) == (1, count)
    for name in SAMPLED:
        assert torch.equal(alone[name], shared[name]), name
    assert alone["gradient"].norm() > 0
    assert distance(alone["gradient"], shared["gradient"]) < 1e-6
    assert distance(alone["trained"], shared["trained"]) < 1e-6


def test_shared_weights_in_bfloat16_are_the_model_that_frozen_ones_are(tmp_path: Path) -> None:
    half = (*SIZES, "backbones.flux.dtype=bfloat16")
    frozen = seen_by(1, "flux_guard_geneval", tmp_path / "frozen", *half, learns=False)
    shared = seen_by(2, "flux_guard_geneval", tmp_path / "shared", *half, *FULL)
    for name in SAMPLED:
        assert torch.equal(frozen[name], shared[name]), name


@pytest.mark.parametrize(
    ("options", "ranks", "message"),
    [
        (("backbones.sd3.train=all",), 1, "train must be lora or full, not 'all'"),
        (("backbones.sd3.train=full", "optim.kl_beta=0.1"), 1, "optim.kl_beta needs train=lora"),
        (("backbones.sd3.train=full", "backbones.sd3.dtype=float16"), 2, "gradients of float16 weights underflow"),
        (("backbones.sd3.train=full", "backbones.sd3.dtype=bfloat16"), 1, "needs two processes or more"),
        (("backbones.sd3.train=full",), 5, "5 processes share 12 trunks"),
        (("optim.kl_unit=sigma",), 1, "optim.kl_unit must be one of with_dt, without_dt, not 'sigma'"),
        (("optim.stacked_steps=0",), 1, "optim.stacked_steps must be positive, not 0"),
    ],
)
def test_what_does_not_fit_together_is_refused_before_weights_load(
    options: tuple[str, ...], ranks: int, message: str, tmp_path: Path
) -> None:
    asked = settings("sd3_guard_text", tmp_path, *options)
    backbone = asked.backbones[find_row(asked.row).backbone]
    with pytest.raises(ConfigError, match=message):
        check_training(asked, backbone, recipe_of(asked, find_row(asked.row)), ranks)
