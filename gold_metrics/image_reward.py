"""ImageReward: how well people would like the picture for its prompt, by a model trained on their comparisons.

Source: Xu et al. 2023 (arXiv 2304.05977), package image-reward 1.5. Its own `inference_rank` takes one prompt for a
list of pictures; here every picture has its own prompt, and N of them are one forward pass.
"""

from __future__ import annotations

import functools
import importlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gold_metrics.clip_models import Files, device_of, no_prompt, read_tensors, scored
from gold_metrics.scorer import Entry, Picture, Score, versions
from gold_metrics.torchvision_repair import repair
from gold_metrics.weights import WEIGHTS, WeightsError

if TYPE_CHECKING:
    import torch

Backend = Literal["package", "transformers"]
Reward = Callable[["torch.Tensor", "torch.Tensor", "torch.Tensor"], "torch.Tensor"]
"""Pixels (N, 3, S, S), token ids (N, 35), attention mask (N, 35) -> normalized rewards (N,)."""

# image-reward 1.5, ImageReward.py:80-81: mean and standard deviation of the rewards of its training set.
MEAN, STD = 0.16717362830052426, 1.0333394966054072

# image-reward 1.5, ImageReward.py:110: longer prompts are cut.
MAX_TOKENS = 35

# image-reward 1.5, ImageReward.py:36: CLIP's mean and standard deviation of the three channels.
PIXEL_MEAN, PIXEL_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)

# The files by what they are, as `WEIGHTS` lists them (image-reward 1.5, utils.py:41, 76 and models/BLIP/blip.py:17).
CHECKPOINT, TEXT_CONFIG, VOCABULARY = ((weight.repo, weight.file) for weight in WEIGHTS["image_reward"])

# The checkpoint's parts that a reward depends on; BLIP's two projections, which it has too, are for its pretraining.
USED = ("blip.visual_encoder.", "blip.text_encoder.", "mlp.")

BACKENDS: dict[Backend, str] = {
    "package": "gold_metrics.image_reward_package",
    "transformers": "gold_metrics.image_reward_blip",
}
PACKAGES: dict[Backend, tuple[str, ...]] = {
    "package": ("torch", "transformers", "pillow", "image-reward", "timm"),
    "transformers": ("torch", "transformers", "pillow"),
}


@dataclass(frozen=True)
class Vision:
    """The picture's transformer; the default is the published one (image-reward 1.5, models/BLIP/blip.py:33-38).

    Attributes:
        size, patch: sides of the picture and of a patch, in pixels.
    """

    size: int = 224
    patch: int = 16
    width: int = 1024
    depth: int = 24
    heads: int = 16


class ImageReward:
    """The published reward, normalized to mean 0 and standard deviation 1 over the pictures that it was trained on.

    On the CPU a picture scored alone has the same bits as the package's own `score`; together with others it may differ
    by about 1e-6, because matrix products of another shape add up in another order.
    """

    name: ClassVar[str] = "image_reward"
    head: ClassVar[str] = "ImageReward"
    higher_is_better: ClassVar[bool] = True
    range: ClassVar[tuple[float, float]] = (-math.inf, math.inf)
    per: ClassVar[Literal["image", "set"]] = "image"

    def __init__(
        self,
        backend: Backend = "package",
        device: str = "",
        folder: Path | str | None = None,
        vision: Vision | None = None,
    ) -> None:
        """The model is loaded by the first score, and once.

        Args:
            backend: whose model code runs, the image-reward package's or transformers'; they agree to 1e-5.
            device: of torch; by default cuda where there is one.
            folder: with ImageReward.pt, med_config.json and vocab.txt; by default what `weights fetch` brought.
            vision: for weights of another size than the published.

        Raises:
            ValueError: no such backend.
            WeightsError: a file is missing, or is not the one that was noted.
        """
        if backend not in get_args(Backend):
            raise ValueError(f"image_reward: backend should be package or transformers, found {backend!r}")
        self.backend: Backend = backend
        self.device = device
        self.vision = vision or Vision()
        self.files = Files.of(self.name, {weight.repo: folder for weight in WEIGHTS[self.name]})

    @property
    def definition(self) -> dict[str, Any]:
        """Files, preprocessing, normalization, precision, backend and versions."""
        return {
            "scorer": self.name,
            "version": 1,
            "files": self.files.identities,
            "max_tokens": MAX_TOKENS,
            "vision": asdict(self.vision),
            "preprocessing": {
                "resize": f"shorter side to {self.vision.size}, PIL bicubic, then center crop",
                "antialias": True,
                "mean": PIXEL_MEAN,
                "std": PIXEL_STD,
            },
            "normalization": {"mean": MEAN, "std": STD},
            "precision": "fp32, no TF32",
            "backend": self.backend,
            "packages": versions(*PACKAGES[self.backend]),
        }

    def fits(self, entry: Entry) -> bool:
        """Every picture with a prompt; one without is missing its prompt, and is counted as such."""
        return True

    def score(self, images: Sequence[Picture], entries: Sequence[Entry]) -> list[Score]:
        """N rewards; NaN where the prompt is empty or the reward is no finite number.

        Raises:
            WeightsError: the files are not of this model; only the first call loads them.
        """
        return scored(images, entries, no_prompt, self._rewards)

    def _rewards(self, images: Sequence[Picture], prompts: Sequence[str]) -> torch.Tensor:
        import torch

        reward, tokenizer, device = self._loaded
        pixels = torch.from_numpy(preprocess(images, self.vision.size)).to(device)
        text = tokenizer(prompts, padding="max_length", truncation=True, max_length=MAX_TOKENS, return_tensors="pt")
        with torch.inference_mode():
            return reward(pixels, text.input_ids.to(device), text.attention_mask.to(device))

    @functools.cached_property
    def _loaded(self) -> tuple[Reward, Any, torch.device]:
        repair()
        device = device_of(self.device)
        state = read_tensors(self.files.paths[CHECKPOINT])
        used = {name: value for name, value in state.items() if name.startswith(USED)}
        tokenizer = load_tokenizer(self.files.paths[VOCABULARY])
        build = importlib.import_module(BACKENDS[self.backend]).build
        return build(self.vision, self.files.paths[TEXT_CONFIG], tokenizer, used, device), tokenizer, device


def preprocess(images: Sequence[Picture], size: int) -> NDArray[np.float32]:
    """Pictures as the model takes them: shorter side to `size` by PIL's bicubic filter, the middle, CLIP's mean, std.

    Equal to the bit to the package's torchvision transform (image-reward 1.5, ImageReward.py:30-37).

    Returns:
        float32 (N, 3, size, size).
    """
    squares = np.stack([_square(image, size) for image in images]).astype(np.float32) / np.float32(255)
    mean, std = (np.array(each, np.float32) for each in (PIXEL_MEAN, PIXEL_STD))
    return np.ascontiguousarray(((squares - mean) / std).transpose(0, 3, 1, 2))


def _square(image: Picture, size: int) -> Picture:
    height, width = image.shape[:2]
    shorter = min(height, width)
    wide, high = int(size * width / shorter), int(size * height / shorter)
    resized = Image.fromarray(image)
    if shorter != size:
        resized = resized.resize((wide, high), Image.Resampling.BICUBIC)
    left, top = round((wide - size) / 2), round((high - size) / 2)
    return np.asarray(resized.crop((left, top, left + size, top + size)))


def load_tokenizer(vocabulary: Path) -> Any:
    """BERT's tokenizer with BLIP's two special tokens (image-reward 1.5, models/BLIP/blip.py:16-21)."""
    from transformers import BertTokenizer

    # Not splitlines: a word may be a line separator of another kind.
    words = vocabulary.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    tokenizer = BertTokenizer(vocab={word: index for index, word in enumerate(words)})
    tokenizer.add_special_tokens({"bos_token": "[DEC]"})
    tokenizer.add_tokens(["[ENC]"], special_tokens=True)
    return tokenizer


def fill(model: torch.nn.Module, state: Mapping[str, torch.Tensor]) -> None:
    """Gives the model its weights: each of its parameters has to be in `state`, and nothing may be left over.

    Raises:
        WeightsError: the weights are of another model, or of another size; names the first that does not fit.
    """
    wanted = dict(model.named_parameters())
    # Positions 0, 1, 2, ... are counted, not learned; some checkpoints have them.
    given = {name: value for name, value in state.items() if not name.endswith("position_ids")}
    for name in [*wanted, *given]:
        shapes = [tuple(those[name].shape) if name in those else "none" for those in (wanted, given)]
        if shapes[0] != shapes[1]:
            raise WeightsError(f"{CHECKPOINT[1]} does not fit the model: {name}: wanted {shapes[0]}, found {shapes[1]}")
    model.load_state_dict(given, strict=False)
