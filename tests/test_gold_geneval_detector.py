"""What GenEval's detector is given and how it is read out, and how colors are read."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from geneval_models import SIDE, SMALL_INPUT, pictures, save_clip, save_mask2former
from PIL import Image
from torch.nn import functional

from gold_metrics.geneval_detector import (
    MEAN,
    NAMES,
    STD,
    ColorReader,
    Detector,
    crop,
    prepare,
    read_out,
    resized_size,
)
from gold_metrics.geneval_rules import COLORS, Thing


@pytest.fixture(scope="module")
def small_input() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SMALL_INPUT.items():
            patch.setattr(f"gold_metrics.geneval_detector.{name}", value)
        yield


@pytest.fixture(scope="module")
def detector_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_mask2former(tmp_path_factory.mktemp("mask2former"))


def bilinear(length: int, wanted: int) -> np.ndarray:
    """(wanted, length) weights of each pixel's two nearest ones, at half-pixel centers and however much it shrinks."""
    place = np.clip((np.arange(wanted) + 0.5) * length / wanted - 0.5, 0, length - 1)
    low = np.minimum(place.astype(int), length - 2)
    matrix = np.zeros((wanted, length))
    matrix[np.arange(wanted), low] += 1 - (place - low)
    matrix[np.arange(wanted), low + 1] += place - low
    return matrix


def test_pictures_are_resized_within_mmdets_bounds() -> None:
    # (1333, 800), its ratio kept, half a pixel rounded up as mmcv does.
    assert [resized_size(size) for size in ((512, 512), (20, 33), (100, 400))] == [(800, 800), (800, 1320), (333, 1333)]


@pytest.mark.parametrize(("short", "long"), [(80, 133), (7, 30)])
def test_the_detectors_input_is_resized_without_antialias_normalised_and_padded(
    short: int, long: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gold_metrics.geneval_detector.SHORT", short)
    monkeypatch.setattr("gold_metrics.geneval_detector.LONG", long)
    picture = np.random.default_rng(0).integers(0, 256, (20, 33, 3), dtype=np.uint8)
    height, width = resized_size((20, 33))
    rows = np.einsum("yi,ijc->cyj", bilinear(20, height), picture.astype(float))
    wanted = (rows @ bilinear(33, width).T).round()
    wanted = (wanted - np.reshape(MEAN, (3, 1, 1))) / np.reshape(STD, (3, 1, 1))
    made = prepare([picture])[0].numpy()
    assert made.shape == (3, -(-height // 32) * 32, -(-width // 32) * 32)
    # A half rounds either way: at most a unit of 255, on a pixel in a hundred.
    off = abs(made[:, :height, :width] - wanted)
    assert off.max() < 1.01 / min(STD) and (off > 1e-4).mean() < 0.01
    assert (made[:, height:] == 0).all() and (made[:, :, width:] == 0).all()


def test_an_instance_is_read_out_with_its_box_and_its_product_of_confidences() -> None:
    # One query sure of class 1 with a mask of logit 2 on columns 2-4 and rows 1-2; one sure of no object.
    classes = torch.tensor([[0.0, 4.0, 0.0], [0.0, 0.0, 9.0]])
    masks = torch.full((2, 8, 8), -3.0)
    masks[0, 1:3, 2:5] = 2.0
    ((label, score, mask),) = read_out(classes, masks, ((8, 8), (8, 8), (8, 8)))
    assert label == 1 and mask.sum() == 6 and mask[1:3, 2:5].all()
    sure, within = math.exp(4) / (math.exp(4) + 2), 1 / (1 + math.exp(-2))
    assert score == pytest.approx(sure * within, rel=1e-5)


def test_overlapping_instances_are_both_read_out_whole() -> None:
    # transformers' own post-processing paints one over the other.
    classes = torch.tensor([[9.0, 0.0, 0.0], [9.0, 0.0, 0.0]])
    masks = torch.full((2, 8, 8), -9.0)
    masks[0, :, :6], masks[1, :, 2:] = 9.0, 9.0
    found = list(read_out(classes, masks, ((8, 8),) * 3))
    assert sorted(int(mask.sum()) for _, _, mask in found) == [48, 48]


def test_padding_is_cut_off_before_masks_go_back_to_the_pictures_size() -> None:
    # A mask on the right half of a 16x16 picture that was resized to 8x8 and padded to 8x12: the padding is no part.
    masks = torch.full((1, 8, 12), -9.0)
    masks[0, :, 4:] = 9.0
    ((_, _, mask),) = read_out(torch.tensor([[9.0, 0.0]]), masks, ((8, 12), (8, 8), (16, 16)))
    assert mask.shape == (16, 16) and mask[:, 8:].all() and not mask[:, :8].any()


def test_a_crop_is_the_thing_on_gray_cut_to_its_box() -> None:
    picture = np.full((10, 12, 3), 200, dtype=np.uint8)
    mask = np.zeros((10, 12), dtype=bool)
    mask[2:5, 3:9] = True
    mask[2, 3] = False
    cut = np.asarray(crop(picture, Thing((3.0, 2.0, 9.0, 5.0), 0.9, mask=mask)))
    assert cut.shape == (3, 6, 3)
    assert (cut[0, 0] == 0x99).all() and (cut.reshape(-1, 3)[1:] == 200).all()


def test_the_color_is_the_argmax_over_the_mean_of_three_templates(tmp_path: Path) -> None:
    reader = ColorReader(save_clip(tmp_path), "cpu")
    crops = [Image.fromarray(picture) for picture in pictures(6, side=40)]
    names = ["cup", "dining table"] * 3
    said = reader(crops, names)
    for image, name, color in zip(crops, names, said, strict=True):
        features = []
        with torch.no_grad():
            for each in COLORS:
                texts = (f"{each} {name}", f"{each}-colored {name}", f"{each} object")
                tokens = [reader.tokenizer(f"a photo of a {text}", return_tensors="pt") for text in texts]
                rows = [reader.model.get_text_features(**one).pooler_output for one in tokens]
                features.append(sum(functional.normalize(row, dim=-1) for row in rows) / 3)
            pixels = reader.processor(images=[image], return_tensors="pt")["pixel_values"]
            seen = reader.model.get_image_features(pixel_values=pixels).pooler_output
            likeness = [float(functional.cosine_similarity(seen, feature)) for feature in features]
        assert color == COLORS[int(np.argmax(likeness))]


def test_labels_are_translated_to_genevals_names(detector_folder: Path, small_input: None) -> None:
    detector = Detector(detector_folder, "cpu")
    assert detector.names == ["person", "airplane", "dining table", "cup", "computer mouse"]
    assert len(set(NAMES.values())) == len(NAMES)


def test_found_things_lie_in_their_pictures_and_pass_the_threshold(detector_folder: Path, small_input: None) -> None:
    found = Detector(detector_folder, "cpu")(pictures(4))
    some = [thing for each in found for things in each.values() for thing in things]
    assert len(some) >= 4
    for thing in some:
        left, top, right, bottom = thing.box
        assert 0 <= left < right <= SIDE and 0 <= top < bottom <= SIDE and 0.3 < thing.score <= 1
        assert thing.mask is not None and thing.mask.shape == (SIDE, SIDE) and not thing.mask[:, int(right) :].any()
