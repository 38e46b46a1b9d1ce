"""What GenEval's rules look at: objects found by Mask2Former, their colors by CLIP, both on transformers.

The published GenEval runs mmdet 2.x's own training of Mask2Former (mask2former_swin-s-p4-w7-224_lsj_8x2_50e_coco) and
open_clip under fp16 autocast. This is Meta's checkpoint of the same architecture, given pictures and read out as mmdet
does (not as transformers' image processor does, which squeezes them to 384x384 and lets no masks overlap), and the same
CLIP weights in fp32. It is not the published metric, and how near it comes was not measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional

from gold_metrics import torchvision_repair
from gold_metrics.clip_models import clip_model, device_of, full_precision, whole_model
from gold_metrics.geneval_rules import COLORS, THRESHOLD, Thing
from gold_metrics.scorer import Picture

MASK2FORMER = "facebook/mask2former-swin-small-coco-instance"
CLIP = "openai/clip-vit-large-patch14"

# mmdetection 71bfee9 configs/mask2former/mask2former_r50_lsj_8x2_50e_coco.py:124-128, 156-169, on which swin-s builds.
LONG, SHORT, DIVISOR, MAX_PER_IMAGE = 1333, 800, 32, 100
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)

# Weights without which scores are the same: of the loss, and of a norm whose output nobody reads.
UNUSED = ("criterion.", "encoder.swin.layernorm.")

# Our choice: pictures per forward of the detector, about a GiB each at 800x800.
BATCH = 8

BACKGROUND = "#999"  # geneval af4902f evaluation/evaluate_images.py:82
# evaluate_images.py:111-115, {c} the color and {name} the class
TEMPLATES = ("a photo of a {c} {name}", "a photo of a {c}-colored {name}", "a photo of a {c} object")

# Meta's labels that differ from GenEval's names (geneval af4902f evaluation/object_names.txt).
NAMES = {
    "motorbike": "motorcycle",
    "aeroplane": "airplane",
    "sofa": "couch",
    "pottedplant": "potted plant",
    "diningtable": "dining table",
    "tvmonitor": "tv",
    "mouse": "computer mouse",
    "remote": "tv remote",
    "keyboard": "computer keyboard",
}

PREPROCESSING = {
    "resize": f"shortest side {SHORT}, longest at most {LONG}, bilinear, rounded to whole values",
    "antialias": False,
    "mean": list(MEAN),
    "std": list(STD),
    "pad": f"zeros to a multiple of {DIVISOR}",
    "max_per_image": MAX_PER_IMAGE,
}
COLOR_READING = {
    "colors": list(COLORS),
    "templates": list(TEMPLATES),
    "background": BACKGROUND,
    "resize": "shortest side to the model's, bicubic (PIL), center crop",
    "antialias": True,
}

Size = tuple[int, int]


class Detector:
    """Mask2Former's instances as mmdet reads them out: score = class probability x mean probability within the mask."""

    def __init__(self, folder: Path, device: str = "", batch: int = BATCH) -> None:
        """`folder` holds config.json and model.safetensors of a Mask2FormerForUniversalSegmentation.

        Raises:
            WeightsError: the folder holds no such model, or not all of its weights.
        """
        torchvision_repair.repair()
        from transformers import Mask2FormerForUniversalSegmentation

        self.device, self.batch = device_of(device), batch
        self.model: Any = whole_model(Mask2FormerForUniversalSegmentation, folder, self.device, UNUSED)
        labels = sorted(self.model.config.id2label.items())
        self.names = [NAMES.get(label.lower(), label.lower()) for _, label in labels]

    def __call__(self, images: Sequence[Picture]) -> list[dict[str, list[Thing]]]:
        """The things above `THRESHOLD` in each picture, by class; pictures of one size share a forward."""
        found: dict[int, dict[str, list[Thing]]] = {}
        for part in _parts([image.shape[:2] for image in images], self.batch):
            with full_precision():
                found |= zip(part, self._detect([images[index] for index in part]), strict=True)
        return [found[index] for index in range(len(images))]

    @torch.inference_mode()
    def _detect(self, images: list[Picture]) -> Iterator[dict[str, list[Thing]]]:
        size = (images[0].shape[0], images[0].shape[1])
        resized = resized_size(size)
        pixels = prepare(images).to(self.device)
        seen = self.model(pixel_values=pixels)
        padded = (pixels.shape[2], pixels.shape[3])
        for classes, masks in zip(seen.class_queries_logits, seen.masks_queries_logits, strict=True):
            yield self._things(classes, masks, (padded, resized, size))

    def _things(self, classes: Tensor, masks: Tensor, sizes: tuple[Size, Size, Size]) -> dict[str, list[Thing]]:
        things: dict[str, list[Thing]] = {}
        for label, score, mask in read_out(classes, masks, sizes):
            things.setdefault(self.names[label], []).append(Thing(_box(mask), score, mask=mask))
        return things


def _parts(sizes: Sequence[tuple[int, ...]], batch: int) -> Iterator[list[int]]:
    """Indices in groups of one size, `batch` at most: a smaller picture's padding would be looked at otherwise."""
    for size in dict.fromkeys(sizes):
        same = [index for index, each in enumerate(sizes) if each == size]
        yield from (same[start : start + batch] for start in range(0, len(same), batch))


def resized_size(size: Size) -> Size:
    """Height and width that mmcv's imrescale gives a picture within 1333x800 or 800x1333."""
    scale = min(LONG / max(size), SHORT / min(size))
    height, width = (int(side * scale + 0.5) for side in size)
    return height, width


def prepare(images: Sequence[Picture]) -> Tensor:
    """The detector's input (N, 3, H, W): RGB pictures of one size resized, normalised and padded as mmdet does."""
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float()
    height, width = resized_size((pixels.shape[2], pixels.shape[3]))
    pixels = functional.interpolate(pixels, size=(height, width), mode="bilinear", align_corners=False).round()
    mean, std = (torch.tensor(values).reshape(1, 3, 1, 1) for values in (MEAN, STD))
    return functional.pad((pixels - mean) / std, (0, -width % DIVISOR, 0, -height % DIVISOR))


def read_out(
    classes: Tensor, masks: Tensor, sizes: tuple[Size, Size, Size]
) -> Iterator[tuple[int, float, NDArray[np.bool_]]]:
    """Label, score and mask of each instance (mmdetection 0c51592 maskformer_fusion_head.py, instance_postprocess).

    Args:
        classes: (Q, labels + 1) logits, the last of no object.
        masks: (Q, h, w) logits.
        sizes: of the padded input, of the resized picture within it, of the picture.
    """
    padded, resized, size = sizes
    probability = classes.softmax(dim=-1)[:, :-1]
    top = probability.flatten().topk(min(MAX_PER_IMAGE, probability.numel()))
    sure = top.indices[top.values > THRESHOLD]  # a mask only lowers the score, so no other can pass
    queries, labels = sure // probability.shape[1], sure % probability.shape[1]
    for query, label in zip(queries.tolist(), labels.tolist(), strict=True):
        logits = _resize(masks[query], padded)[: resized[0], : resized[1]]
        logits = _resize(logits, size)
        mask = logits > 0
        within = (logits.sigmoid() * mask).sum() / (mask.sum() + 1e-6)
        score = float(probability[query, label] * within)
        if score > THRESHOLD:
            yield label, score, mask.cpu().numpy()


def _resize(logits: Tensor, size: Size) -> Tensor:
    return functional.interpolate(logits[None, None], size=size, mode="bilinear", align_corners=False)[0, 0]


def _box(mask: NDArray[np.bool_]) -> tuple[float, float, float, float]:
    """Left, top, right, bottom, the last two one pixel beyond (mmdet 2.x core/mask/utils.py, mask2bbox)."""
    (rows,), (columns,) = np.nonzero(mask.any(axis=1)), np.nonzero(mask.any(axis=0))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def crop(picture: Picture, thing: Thing) -> Image.Image:
    """The thing alone on gray, cut to its box (evaluate_images.py:89-104)."""
    image = Image.fromarray(picture)
    if thing.mask is not None:
        blank = Image.new("RGB", image.size, color=BACKGROUND)
        image = Image.composite(image, blank, Image.fromarray(thing.mask))
    left, top, right, bottom = (round(side) for side in thing.box)
    return image.crop((left, top, right, bottom))


class ColorReader:
    """CLIP's zero-shot choice among `COLORS` for crops of things of a named class."""

    def __init__(self, folder: Path, device: str = "") -> None:
        """`folder` holds a CLIPModel with its tokenizer and preprocessor_config.json.

        Raises:
            WeightsError: the folder holds no such model, or not all of its weights.
        """
        torchvision_repair.repair()
        from transformers import CLIPImageProcessorPil, CLIPTokenizer

        self.device = device_of(device)
        self.model: Any = clip_model(folder, self.device)
        self.tokenizer: Any = CLIPTokenizer.from_pretrained(folder)
        self.processor: Any = CLIPImageProcessorPil.from_pretrained(folder)
        self._of_class: dict[str, Tensor] = {}

    @torch.inference_mode()
    @full_precision()
    def __call__(self, crops: Sequence[Image.Image], names: Sequence[str]) -> list[str]:
        """The color of each of N crops of things of N class names; one forward of the image tower."""
        if not crops:
            return []
        pixels = self.processor(images=list(crops), return_tensors="pt")["pixel_values"].to(self.device)
        seen = functional.normalize(self.model.get_image_features(pixel_values=pixels).pooler_output, dim=-1)
        colors = torch.stack([self._colors(name) for name in names])
        best = torch.einsum("nd,ncd->nc", seen, colors).argmax(dim=1)
        return [COLORS[index] for index in best.tolist()]

    def _colors(self, name: str) -> Tensor:
        """(colors, d): per color the mean of its templates' directions, of length 1 (clip_benchmark's classifier)."""
        if name not in self._of_class:
            texts = [template.format(c=color, name=name) for color in COLORS for template in TEMPLATES]
            tokens = self.tokenizer(texts, padding=True, truncation=True, return_tensors="pt").to(self.device)
            told = functional.normalize(self.model.get_text_features(**tokens).pooler_output, dim=-1)
            mean = told.reshape(len(COLORS), len(TEMPLATES), -1).mean(dim=1)
            self._of_class[name] = functional.normalize(mean, dim=-1)
        return self._of_class[name]
