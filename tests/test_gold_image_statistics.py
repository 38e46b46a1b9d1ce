"""Image statistics: closed forms, what damage does to them, and independence of order and batch."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageFilter

import gold_metrics
from gold_metrics import Entry, Picture
from gold_metrics.color import cell_distances, difference, luma, oklab
from gold_metrics.image_statistics import perceptual_hash, stripes

OF_IMAGES = ("edge_density", "color_entropy", "saturation", "stripes")
OF_SETS = ("diversity", "duplicates")
RNG = np.random.default_rng


def entries(count: int, prompts: int = 1) -> list[Entry]:
    return [Entry(f"{i}.png", "", f"p{i % prompts}", "", i) for i in range(count)]


def values(name: str, pictures: list[Picture], prompts: int = 1) -> list[float]:
    scores = gold_metrics.load(name).score(pictures, entries(len(pictures), prompts))
    return [score.value for score in scores]


def value(name: str, *pictures: Picture) -> float:
    return values(name, list(pictures))[0]


def flat(color: tuple[int, int, int] | int, height: int = 32, width: int = 32) -> Picture:
    return np.full((height, width, 3), color, dtype=np.uint8)


def noise(seed: int, size: int = 32, middle: float = 128, spread: float = 20) -> Picture:
    return to_picture(RNG(seed).normal(middle, spread, (size, size, 3)))


def to_picture(units: NDArray[np.floating]) -> Picture:
    return units.round().clip(0, 255).astype(np.uint8)


def natural(seed: int, size: int = 64, contrast: float = 45) -> Picture:
    """A picture whose amplitudes fall as 1/frequency, as those of photographs do."""
    rng = RNG(seed)
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.fftfreq(size))
    frequency[0, 0] = np.inf
    noise = np.fft.fft2(rng.normal(size=(3, size, size))) / frequency
    smooth = np.moveaxis(np.fft.ifft2(noise).real, 0, 2)
    return to_picture(128 + contrast * smooth / smooth.std())


def grating(period: float, amplitude: float, axis: int, ground: Picture) -> Picture:
    """The picture plus a sine that runs along the axis."""
    wave = amplitude * np.sin(2 * np.pi * (np.arange(ground.shape[axis]) + 0.25) / period)
    return to_picture(ground + wave[(slice(None), None, None) if axis == 0 else (None, slice(None), None)])


@pytest.mark.parametrize("size", [(32, 32), (64, 48), (257, 1024)])
def test_a_plain_picture_has_no_edges_no_entropy_and_no_stripes(size: tuple[int, int]) -> None:
    plain = flat((40, 90, 200), *size)
    assert [value(name, plain) for name in ("edge_density", "color_entropy", "stripes")] == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("count", [2, 3, 7, 16])
def test_equal_areas_of_k_colors_have_an_entropy_of_log2_k(count: int) -> None:
    colors = [(32 * (i % 8), 255 - 64 * (i // 8), 128) for i in range(count)]
    picture = np.concatenate([flat(color, 32, 4) for color in colors], axis=1)
    assert value("color_entropy", picture) == pytest.approx(math.log2(count), abs=1e-12)
    shuffled = RNG(0).permutation(picture.reshape(-1, 3)).reshape(picture.shape)
    assert value("color_entropy", shuffled) == pytest.approx(math.log2(count), abs=1e-12)


def test_entropy_reaches_its_range_where_every_color_is_there_once() -> None:
    levels = np.arange(0, 256, 32)
    picture = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(32, 16, 3).astype(np.uint8)
    assert value("color_entropy", picture) == gold_metrics.load("color_entropy").range[1] == 9.0


@pytest.mark.parametrize(
    ("color", "saturation"),
    [(90, 0.0), (0, 0.0), (255, 0.0), ((200, 0, 0), 1.0), ((0, 1, 1), 1.0), ((200, 150, 50), 0.75)],
)
def test_saturation_is_that_of_hsv(color: tuple[int, int, int] | int, saturation: float) -> None:
    assert value("saturation", flat(color)) == pytest.approx(saturation, abs=1e-12)


def test_saturation_agrees_with_pillows_hsv() -> None:
    picture = RNG(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    theirs = np.asarray(Image.fromarray(picture).convert("HSV"))[..., 1].mean() / 255
    assert value("saturation", picture) == pytest.approx(theirs, abs=1 / 255)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize(("step", "columns"), [(33, 2), (200, 2), (31, 0)])
def test_a_step_has_edges_on_its_two_pixels_if_it_is_high_enough(axis: int, step: int, columns: int) -> None:
    picture = np.concatenate([flat(20, 64, 64), flat(20 + step, 64, 64)], axis=axis)
    assert value("edge_density", picture) == columns / 128


def test_luma_agrees_with_pillows() -> None:
    picture = RNG(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    assert abs(luma(picture) - np.asarray(Image.fromarray(picture).convert("L"))).max() <= 1


# --- stripes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize(("size", "period"), [(32, 4), (64, 8), (512, 8), (1024, 16)])
def test_a_grating_on_a_plain_ground_has_its_closed_form_along_its_axis_alone(
    axis: int, size: int, period: int
) -> None:
    made = grating(period, 40, axis, flat(128, size, size))
    assert stripes(made, axis) == pytest.approx(40 * math.sqrt(2 * size), rel=0.02)
    assert stripes(made, 1 - axis) == 0
    assert value("stripes", made) == stripes(made, axis)


@pytest.mark.parametrize("period", [2.5, 4, 7.3, 11])
@pytest.mark.parametrize("ground", [noise(0, 128), natural(0, 128, 15)], ids=["noise", "natural"])
def test_stripes_grow_in_proportion_to_a_gratings_amplitude(ground: Picture, period: float) -> None:
    before = [stripes(ground, axis) for axis in (0, 1)]
    few, many = (stripes(grating(period, amplitude, 1, ground), 1) for amplitude in (15, 30))
    assert many / few == pytest.approx(2, rel=0.15)
    assert few > 2 * before[1]
    assert stripes(grating(period, 30, 1, ground), 0) == pytest.approx(before[0], rel=0.15)


@pytest.mark.parametrize("size", [32, 64, 256, 1024])
def test_pictures_without_stripes_stay_near_one(size: int) -> None:
    assert all(
        0.9 < value("stripes", make(seed, size)) < 2.2 for make in (noise, natural) for seed in range(96 // size + 1)
    )


@pytest.mark.parametrize("size", [32, 33, 128])
def test_a_checkerboard_of_single_pixels_counts_on_both_axes(size: int) -> None:
    board = 12 * ((np.indices((size, size)).sum(axis=0) % 2) - 0.5)[..., None]
    ground = noise(3, size, spread=6)
    assert all(stripes(to_picture(ground + board), axis) > 2.5 * stripes(ground, axis) for axis in (0, 1))


def test_stripes_of_equal_luma_are_seen() -> None:
    # Red rises by what its weight leaves of green's fall.
    wave = 20 * np.sin(2 * np.pi * np.arange(128) / 8)[None, :, None] * np.array([0.587 / 0.299, -1, 0])
    made = to_picture(noise(4, 128, spread=8) + wave)
    assert value("edge_density", made) < 0.05
    assert value("stripes", made) > 5


def test_stripes_of_one_channel_count_alike_in_each() -> None:
    wave = 20 * np.sin(2 * np.pi * np.arange(128) / 8)[:, None, None]
    ground = np.repeat(noise(4, 128)[..., :1], 3, axis=2)
    found = [value("stripes", to_picture(ground + wave * np.eye(3)[channel])) for channel in range(3)]
    assert found[0] > 2 and found == pytest.approx([found[0]] * 3, rel=1e-9)


def test_periods_longer_than_a_quarter_of_the_side_are_content() -> None:
    ground = noise(0, 128)
    assert value("stripes", grating(64, 40, 0, ground)) < 1.5
    assert value("stripes", grating(25, 40, 0, ground)) > 3


def test_a_picture_too_small_for_stripes_has_no_score_and_says_why() -> None:
    (score,) = gold_metrics.load("stripes").score([flat(1, 64, 31)], entries(1))
    assert math.isnan(score.value) and "found 31 by 64" in score.reason


# --- sets ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [2, 5])
@pytest.mark.parametrize("picture", [flat(77), noise(0), natural(0, 200)], ids=["flat", "noise", "natural"])
def test_copies_have_no_diversity_and_are_all_duplicates(picture: Picture, count: int) -> None:
    assert value("diversity", *[picture] * count) == 0
    assert value("duplicates", *[picture] * count) == 1


def test_diversity_of_black_and_white_is_the_share_of_unlike_pairs() -> None:
    pictures = [flat(0)] * 3 + [flat(255, 50, 70)] * 2
    assert value("diversity", *pictures) == pytest.approx(3 * 2 / 10, abs=1e-6)


def test_diversity_of_a_part_is_its_area_times_its_color_difference() -> None:
    left_red = np.concatenate([flat((255, 0, 0), 64, 16), flat(255, 64, 48)], axis=1)
    expected = difference(oklab(flat((255, 0, 0), 1, 1)), oklab(flat(255, 1, 1)))[0, 0] / 4
    assert value("diversity", left_red, flat(255)) == pytest.approx(expected, abs=1e-9)


def test_oklab_has_the_published_values() -> None:
    # Oklab of the sRGB primaries as CSS Color 4 implementations list them, for instance
    # github.com/TomasEng/Chromator packages/chromator/src/test-data/namedColourList.ts
    colors = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [128, 128, 128]]], dtype=np.uint8)
    published = [
        (0.627955, 0.224863, 0.125846),
        (0.866440, -0.233888, 0.179498),
        (0.452014, -0.032457, -0.311528),
        (1.0, 0.0, 0.0),
        (0.599871, 0.0, 0.0),
    ]
    assert oklab(colors)[0] == pytest.approx(np.array(published), abs=1e-4)


def test_no_two_colors_are_further_apart_than_black_and_white() -> None:
    levels = np.linspace(0, 255, 9).round()
    colors = oklab(np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(1, -1, 3).astype(np.uint8))[0]
    largest = max(difference(colors, one).max() for one in colors)
    assert largest == pytest.approx(1, abs=1e-6)


def test_independent_pictures_are_no_duplicates() -> None:
    for make in (noise, natural):
        assert value("duplicates", *[make(seed, 64) for seed in range(24)]) == 0
    hashes = np.stack([perceptual_hash(noise(seed, 64)) for seed in range(40)])
    apart = [(hashes[i] != hashes[j]).sum() for i in range(40) for j in range(i)]
    assert np.mean(apart) == pytest.approx(32, abs=1) and np.std(apart) == pytest.approx(4, abs=1)


def test_a_copy_with_noise_or_a_little_light_is_still_a_duplicate() -> None:
    first = natural(1, 128)
    noisy = to_picture(first + RNG(0).normal(0, 4, first.shape))
    lighter = to_picture(first + 6.0)
    assert value("duplicates", first, noisy, lighter) == 1
    assert value("duplicates", first, natural(2, 128), noisy, natural(3, 128)) == 0.5


def test_a_hash_does_not_see_a_uniform_light() -> None:
    ramp = np.tile(2 * np.arange(64, dtype=np.uint8)[None, :, None], (64, 1, 3))
    assert all((perceptual_hash(ramp + light) == perceptual_hash(ramp)).all() for light in range(3, 60, 3))


def test_one_thing_in_two_colors_or_two_places_is_no_duplicate() -> None:
    def square(color: tuple[int, int, int], left: int) -> Picture:
        picture = flat(235, 64, 64)
        picture[10:34, left : left + 24] = color
        return picture

    assert value("duplicates", square((200, 20, 20), 5), square((20, 20, 200), 5)) == 0
    assert value("duplicates", square((200, 20, 20), 5), square((200, 20, 20), 36)) == 0
    assert value("duplicates", flat((200, 20, 20)), flat((20, 20, 200))) == 0


@pytest.mark.parametrize("name", OF_SETS)
def test_a_single_picture_has_no_score_and_says_why(name: str) -> None:
    (score,) = gold_metrics.load(name).score([flat(1)], entries(1))
    assert math.isnan(score.value) and "at least two pictures" in score.reason


# --- damage, order, batches ----------------------------------------------------------------------------------------


def faded(share: float, picture: Picture) -> Picture:
    return to_picture((1 - share) * picture + share * luma(picture)[..., None])


def blurred(radius: float, picture: Picture) -> Picture:
    return np.asarray(Image.fromarray(picture).filter(ImageFilter.GaussianBlur(radius)))


def posterized(bits: float, picture: Picture) -> Picture:
    return picture >> int(bits) << int(bits)


@pytest.mark.parametrize(
    ("name", "damage", "steps", "sign"),
    [
        ("saturation", faded, (0, 0.3, 0.6, 1), -1),
        ("edge_density", blurred, (0, 0.5, 1, 2), -1),
        ("color_entropy", posterized, (0, 6, 7, 8), -1),
        (
            "edge_density",
            lambda spread, one: to_picture(one + RNG(0).normal(0, 1, one.shape) * spread),
            (0, 10, 20, 40),
            1,
        ),
        ("stripes", lambda amplitude, one: grating(8, amplitude, 0, one), (0, 5, 10, 20), 1),
    ],
)
def test_a_statistic_is_monotone_in_its_damage(
    name: str, damage: Callable[[float, Picture], Picture], steps: tuple[float, ...], sign: int
) -> None:
    picture = natural(5, 128)
    found = [value(name, damage(step, picture)) for step in steps]
    assert (np.diff(found) * sign > 0).all()


def test_a_set_that_collapses_loses_diversity_and_then_becomes_duplicates() -> None:
    pictures = [natural(seed) for seed in range(6)]
    mean = np.mean(pictures, axis=0)
    collapsing = [[to_picture((1 - s) * one + s * mean) for one in pictures] for s in (0, 0.5, 0.8, 1)]
    assert (np.diff([value("diversity", *each) for each in collapsing]) < 0).all()
    shares = [value("duplicates", *each) for each in collapsing]
    assert shares == sorted(shares) and (shares[0], shares[-1]) == (0, 1)


@pytest.mark.parametrize("name", OF_IMAGES)
def test_scores_permute_with_their_inputs_and_know_no_batches(name: str) -> None:
    pictures = [make(seed, size) for seed, size in enumerate((32, 64, 100, 57, 40)) for make in (noise, natural)]
    scores = values(name, pictures)
    order = RNG(0).permutation(len(pictures))
    assert values(name, [pictures[i] for i in order]) == [scores[i] for i in order]
    assert [value(name, one) for one in pictures] == scores
    assert len(set(scores)) == len(scores)


@pytest.mark.parametrize("name", OF_SETS)
def test_a_set_is_judged_alone_and_in_any_order(name: str) -> None:
    pictures = [natural(seed // 2 if seed % 3 == 0 else seed, 32 + seed) for seed in range(12)]
    scores = values(name, pictures, prompts=3)
    assert scores == [value(name, *pictures[start::3]) for start in range(3)]
    assert scores == pytest.approx([value(name, *pictures[start::3][::-1]) for start in range(3)], abs=1e-12)


@pytest.mark.parametrize("name", OF_IMAGES + OF_SETS)
@pytest.mark.parametrize("size", [32, 1024])
def test_a_score_lies_in_its_range_and_fits_everyone(name: str, size: int) -> None:
    scorer = gold_metrics.load(name)
    pictures = [RNG(seed).integers(0, 256, (size, size, 3), dtype=np.uint8) for seed in range(2)]
    assert all(scorer.range[0] <= score.value <= scorer.range[1] for score in scorer.score(pictures, entries(2)))
    assert scorer.fits(entries(1)[0]) and scorer.name == name
    assert scorer.per == ("set" if name in OF_SETS else "image")
    gold_metrics.definition_hash(scorer.definition)


def test_cell_distances_are_symmetric_with_a_zero_diagonal() -> None:
    distances = cell_distances([natural(seed, 40) for seed in range(5)])
    assert np.array_equal(distances, distances.T) and not distances.diagonal().any()
