"""HPSv2: which picture people prefer for a prompt, by a CLIP trained on their choices.

Source: Wu et al. 2023 (arXiv 2306.09341), repository tgxs002/HPSv2 at 866735e. Scores of different prompts are not
comparable, and those of v2.0 and v2.1 are on different scales.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from gold_metrics.clip_models import Files, device_of, misfit, no_prompt, read_tensors, scored
from gold_metrics.scorer import Entry, Picture, Score, versions
from gold_metrics.torchvision_repair import repair
from gold_metrics.weights import WEIGHTS, WeightsError, sha256

if TYPE_CHECKING:
    import torch

# hpsv2/utils.py:14-17: one repository, a file for each version.
VERSIONS = {"v2.0": "hpsv2_v2.0", "v2.1": "hpsv2"}

# open_clip/model_configs/ViT-H-14.json, the model of hpsv2/img_score.py:20-22.
VIT_H_14: dict[str, Any] = {
    "embed_dim": 1024,
    "vision_cfg": {"image_size": 224, "layers": 32, "width": 1280, "head_width": 80, "patch_size": 14},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 1024, "heads": 16, "layers": 24},
}

# Whose code decides about the number; open_clip's tokenizer serves both backends.
PACKAGES = {
    "open_clip": ("torch", "open_clip_torch"),
    "transformers": ("torch", "open_clip_torch", "transformers"),
}

PRECISIONS = ("fp32", "amp")


class HPSv2:
    """Cosine of the picture's and the prompt's embeddings, without CLIP's logit scale (hpsv2/img_score.py:77-81).

    Published tables have it times 100. Pictures are RGB here: HPSv2 itself turns a palette into RGB as `image_set`
    does, and cannot score a picture with an alpha channel.
    """

    name: ClassVar[str] = "hpsv2"
    head: ClassVar[str] = "HPSv2"
    higher_is_better: ClassVar[bool] = True
    range: ClassVar[tuple[float, float]] = (-1.0, 1.0)
    per: ClassVar[Literal["image", "set"]] = "image"

    def __init__(
        self,
        version: str = "v2.1",
        backend: str = "open_clip",
        precision: str = "fp32",
        device: str = "",
        checkpoint: Path | str | None = None,
        shape: Mapping[str, Any] | None = None,
    ) -> None:
        """The model is loaded by the first score, and once.

        Args:
            version: of the weights, v2.1 or v2.0.
            backend: whose model code runs, open_clip or transformers; they agree to 1e-6.
            precision: fp32, or amp: float16 autocast, what HPSv2 itself does on a GPU (hpsv2/img_score.py:76).
            device: of torch; by default cuda where there is one.
            checkpoint: the file of weights; by default what `weights fetch` brought.
            shape: sizes of another model than ViT-H-14, as open_clip's JSON has them.

        Raises:
            ValueError: no such version, backend or precision, or amp without a GPU.
            WeightsError: the weights are missing, or are not those that were noted.
        """
        for option, value, known in (("version", version, VERSIONS), ("backend", backend, PACKAGES),
                                     ("precision", precision, PRECISIONS)):  # fmt: skip
            if value not in known:
                raise ValueError(f"hpsv2: {option} should be {' or '.join(known)}, found {value!r}")
        self.version, self.backend, self.precision, self.device = version, backend, precision, device_of(device)
        if precision == "amp" and self.device.type != "cuda":
            raise ValueError(f"hpsv2: precision amp needs a cuda device, found {self.device}: take fp32")
        self.shape = dict(shape or VIT_H_14)
        self.checkpoint = _file(version, checkpoint)

    @property
    def definition(self) -> dict[str, Any]:
        """Weights, preprocessing, precision, backend and versions."""
        weight = WEIGHTS[VERSIONS[self.version]][0]
        return {
            "scorer": self.name,
            "version": 1,
            "weights": self.version,
            "checkpoint": {"repo": weight.repo, "file": weight.file, "sha256": sha256(self.checkpoint)},
            "model": self.shape,
            "preprocessing": _preprocessing(self._side),
            "number": "cosine",
            "precision": f"{self.precision}, no TF32",
            "backend": self.backend,
            "packages": versions(*PACKAGES[self.backend]),
        }

    def fits(self, entry: Entry) -> bool:
        """Every picture; one without a prompt is counted as missing."""
        return True

    def score(self, images: Sequence[Picture], entries: Sequence[Entry]) -> list[Score]:
        """N cosines in [-1, 1]; NaN without a prompt, or where a picture is too thin to be resized.

        Raises:
            WeightsError: the weights are of another model; only the first call loads them.
        """
        return scored(images, entries, self._fault, self._cosines)

    @property
    def _side(self) -> int:
        side: int = self.shape["vision_cfg"]["image_size"]
        return side

    def _fault(self, image: Picture, entry: Entry) -> str:
        from gold_metrics.preprocess import fitted

        height, width = image.shape[:2]
        if min(fitted(height, width, self._side)) < 1:
            return f"a picture of {width}x{height} has no pixel left with its longest side at {self._side}"
        return no_prompt(image, entry)

    def _cosines(self, images: list[Picture], prompts: list[str]) -> torch.Tensor:
        import torch

        from gold_metrics.preprocess import fit, normalize, unit

        embed, tokens = self._loaded
        pixels = torch.stack([normalize(fit(unit(image), self._side)) for image in images])
        half = torch.autocast(self.device.type, torch.float16, enabled=self.precision == "amp")
        with torch.inference_mode(), half:
            seen, said = embed(pixels.to(self.device), tokens(prompts).to(self.device))
            # A matrix product, as HPSv2's: autocast rounds it, and would not round a sum of products.
            return torch.einsum("nd,nd->n", seen, said).float()

    @functools.cached_property
    def _loaded(self) -> tuple[Any, Any]:
        repair()
        from open_clip.tokenizer import SimpleTokenizer

        from gold_metrics.clip_backends import BACKENDS

        state = read_tensors(self.checkpoint)
        try:
            embed = BACKENDS[self.backend](self.shape, state, self.device)
        except RuntimeError as error:
            raise misfit(self.checkpoint, error) from None
        return embed, SimpleTokenizer(context_length=self.shape["text_cfg"]["context_length"])


def _file(version: str, checkpoint: Path | str | None) -> Path:
    if checkpoint is None:
        weight = WEIGHTS[VERSIONS[version]][0]
        return Files.of(VERSIONS[version], {weight.repo: None}).paths[weight.repo, weight.file]
    if not Path(checkpoint).is_file():
        raise WeightsError(f"hpsv2 wants a file of weights at {checkpoint}, found none")
    return Path(checkpoint)


def _preprocessing(side: int) -> dict[str, Any]:
    from gold_metrics.preprocess import MEAN, STD

    return {
        "resize": f"longest side to {side} on the tensor, bicubic, zeros around",
        "antialias": True,
        "mean": MEAN,
        "std": STD,
    }
