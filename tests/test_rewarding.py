"""Rewards: the same whether they are scored beside the rollout or after it, and never made up."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from bench.members import Member, members_of
from bench.prompts import Prompt
from bench.rewarding import RewardError, Rewarding
from bench.rewards.stand_in import StandIn
from gold_metrics.scorer import Entry, Picture, Score, missing

CPU = torch.device("cpu")


class Watched(StandIn):
    """A judge that notes who asks it and waits until it may answer."""

    def __init__(self) -> None:
        self.may, self.threads, self.sizes = threading.Event(), list[Any](), list[int]()

    def score(self, images: Sequence[Picture], entries: Sequence[Entry]) -> list[Score]:
        self.threads.append(threading.current_thread())
        self.sizes.append(len(images))
        assert self.may.wait(10)
        return super().score(images, entries)


def batches() -> list[tuple[list[Member], np.ndarray]]:
    members = members_of([Prompt("p", "a", {}), Prompt("q", "b", {})], 35)
    images = np.random.default_rng(0).integers(0, 256, (70, 2, 4, 4, 3), dtype=np.uint8)
    return [(members[:40], images[:40]), (members[40:], images[40:])]


@pytest.mark.parametrize("overlap", [True, False])
def test_rewards_are_those_of_each_image_in_the_members_order(overlap: bool) -> None:
    proxy = Watched()
    with Rewarding(proxy, CPU, overlap=overlap) as rewarding:
        for batch in batches():
            rewarding.add(*batch)
        if not overlap:
            assert proxy.threads == []  # nothing may run beside a rollout
        proxy.may.set()
        found = rewarding.rewards()
    wanted = np.concatenate([images for _, images in batches()]).mean((2, 3, 4)) / 255
    assert np.allclose(found.numpy(), wanted, rtol=1e-12)
    assert proxy.sizes == [64, 16, 60]  # a micro-batch at a time, cut into the judges' batches
    assert (threading.main_thread() in proxy.threads) is not overlap


def test_adding_does_not_wait_for_a_judge() -> None:
    proxy = Watched()
    with Rewarding(proxy, CPU) as rewarding:
        for batch in batches():
            rewarding.add(*batch)  # the judge is still held up
        proxy.may.set()
        assert rewarding.rewards().shape == (70, 2)


def test_an_image_without_a_reward_stops_the_run() -> None:
    class Blind(StandIn):
        def score(self, images: Sequence[Picture], entries: Sequence[Entry]) -> list[Score]:
            return [missing("too dark") if entry.prompt == "b" else Score(1.0) for entry in entries]

    with Rewarding(Blind(), CPU) as rewarding:
        for batch in batches():
            rewarding.add(*batch)
        with pytest.raises(RewardError, match="no reward to 70 of 140 images, first for the prompt 'b': too dark"):
            rewarding.rewards()
