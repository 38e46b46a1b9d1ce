"""The benchmark: both sides give the same scores, are timed in turn, and differ in what they are said to differ in."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from gold_metrics import benchmark
from gold_metrics import benchmark_models as models
from gold_metrics.benchmark import alternate, compare, main, subjects
from gold_metrics.benchmark_models import BERT, Contest, Size
from gold_metrics.image_reward import Vision

TINY = Size(
    {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
    },
    Vision(size=32, patch=16, width=16, depth=1, heads=2),
    BERT | {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2},
)
CPU = torch.device("cpu")
CONTESTS = (models.hpsv2, models.image_reward)


@pytest.mark.parametrize("contest", CONTESTS)
def test_both_sides_give_the_same_scores(contest: Callable[..., Contest], tmp_path: Path) -> None:
    made = contest(TINY, tmp_path, "cpu")
    images, entries = subjects(4)
    ours = [score.value for score in made.scorer.score(images, entries)]
    upstream = made.upstream()
    assert [upstream(*pair) for pair in zip(images, entries, strict=True)] == pytest.approx(ours, abs=1e-6)
    assert len(set(ours)) == 4


@pytest.mark.parametrize(("contest", "wanted"), zip(CONTESTS, (1 + 2 * 5, 1), strict=True))
def test_upstreams_hpsv2_reads_its_checkpoint_for_every_picture_and_ours_once(
    contest: Callable[..., Contest], wanted: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, load, reads = contest(TINY, tmp_path, "cpu"), torch.load, itertools.count(1)
    read = 0

    def counted(*arguments: object, **options: object) -> object:
        nonlocal read
        read = next(reads)
        return load(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(torch, "load", counted)
    compare(made, batch=5, rounds=1, device=CPU)  # upstream twice: once before the clock runs
    assert read == wanted


def test_who_begins_changes_from_round_to_round() -> None:
    order: list[str] = []
    alternate(lambda: order.append("a"), lambda: order.append("b"), 4)
    assert "".join(order) == "abbaabba"


def test_a_ratio_is_of_the_medians_and_times_are_per_picture(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # Rounds 1 and 3 begin with ours, round 2 with upstream's; then preprocessing three times.
    clock = iter([0.2, 1.0, 9.0, 0.4, 0.3, 1.2, 0.04, 0.02, 0.8])
    monkeypatch.setattr(benchmark, "seconds", lambda call: next(clock))
    row = compare(models.image_reward(TINY, tmp_path, "cpu"), batch=2, rounds=3, device=CPU)
    assert (row.ours, row.theirs, row.preprocessing) == pytest.approx((150, 600, 20))
    assert row.ratio == pytest.approx(1.2 / 0.3)
    assert row.ratio_without == pytest.approx((1.2 - 0.04) / (0.3 - 0.04))
    assert row.peak_gib is None


def test_the_command_says_that_weights_are_random_and_memory_is_not_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(models, "SMALL", TINY)
    assert main(["--device", "cpu", "--batch", "2", "--rounds", "1"]) == 0
    table = capsys.readouterr().out
    assert "weights: random, for time only" in table and table.count("not measured") == 2
    assert "checkpoint read per picture" in table and "one picture per call" in table


def test_json_has_every_number_of_the_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(models, "SMALL", TINY)
    assert main(["--device", "cpu", "--batch", "2", "--rounds", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["batch"], found["rounds"], found["size"]) == (2, 1, "small")
    assert [row["scorer"] for row in found["rows"]] == ["hpsv2", "image_reward"]
    for row in found["rows"]:
        assert min(row["preprocessing"], row["ours"]) > 0 and row["peak_gib"] is None and row["parameters"] > 10_000
        assert row["ratio"] == pytest.approx(row["theirs"] / row["ours"])


@pytest.mark.parametrize("argument", ["--batch", "--rounds"])
@pytest.mark.parametrize("value", ["0", "-1", "many"])
def test_a_wrong_count_is_refused(argument: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([f"{argument}={value}"])
    assert end.value.code == 2
    assert f"wanted a number from 1 on, found '{value}'" in capsys.readouterr().err


@pytest.mark.parametrize("device", ["cuda:99", "abacus"])
def test_a_device_that_is_not_there_is_refused(device: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--device", device])
    assert end.value.code == 2
    assert f"torch has no device '{device}' here" in capsys.readouterr().err


@pytest.mark.gpu
def test_on_a_gpu_memory_is_measured_and_one_load_is_five_times_as_fast(tmp_path: Path) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device: on a CPU computing takes longer than reading")
    row = compare(models.hpsv2(models.SMALL, tmp_path, "cuda"), batch=16, rounds=3, device=torch.device("cuda"))
    assert row.peak_gib is not None and row.peak_gib > 0.01
    assert row.ratio_without >= 5
