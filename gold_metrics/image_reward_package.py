"""The image-reward package's own model under a current transformers.

Importing the package as a whole needs OpenAI's clip and datasets, and its text model needs names that transformers has
since moved or dropped (zai-org/ImageReward pull request 118, which no release has). So its model modules are imported
without the packages around them, beside stand-ins for those names; what computes the score is the package's code.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import sys
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NoReturn

import torch

from gold_metrics.image_reward import Reward, fill
from gold_metrics.torchvision_repair import repair

if TYPE_CHECKING:
    from gold_metrics.image_reward import Vision

BLIP = "ImageReward.models.BLIP"


def build(
    vision: Vision, text_config: Path, tokenizer: Any, state: Mapping[str, torch.Tensor], device: torch.device
) -> Reward:
    """The package's model with these weights, in evaluation mode.

    Args:
        text_config: JSON file of the text model's sizes.
        state: the package's own checkpoint.

    Raises:
        WeightsError: the weights are of another model.
    """
    model = create(vision, text_config, tokenizer, device)
    model.blip.vision_proj = model.blip.text_proj = None  # of BLIP's pretraining: no reward depends on them
    fill(model, state)
    model.to(device).eval()
    return lambda pixels, ids, mask: model.score_gard(ids, mask, pixels)[:, 0]


def create(vision: Vision, text_config: Path, tokenizer: Any, device: torch.device) -> Any:
    """The package's `ImageReward` with random weights; it downloads nothing.

    Its constructor is written for one size and for a tokenizer from the network: both are handed to it instead.
    """
    package = modules()["ImageReward.ImageReward"]
    pretrain = modules()[f"{BLIP}.blip_pretrain"]
    pictures = modules()[f"{BLIP}.vit"].VisionTransformer(
        vision.size, vision.patch, embed_dim=vision.width, depth=vision.depth, num_heads=vision.heads
    )
    hidden = pretrain.BertConfig.from_json_file(str(text_config)).hidden_size
    mlp = functools.partial(package.MLP, hidden)
    with (
        _in_place(pretrain, create_vit=lambda *_: (pictures, vision.width), init_tokenizer=lambda: tokenizer),
        _in_place(package, MLP=lambda _: mlp()),
    ):
        return package.ImageReward(device=device, med_config=str(text_config))


@functools.cache
def modules() -> dict[str, ModuleType]:
    """The package's model modules by name, imported once and without its `__init__`s.

    Raises:
        ModuleNotFoundError: image-reward is not installed.
    """
    repair()
    from transformers import modeling_utils
    from transformers.utils import logging

    names = ["ImageReward.ImageReward", f"{BLIP}.blip_pretrain", f"{BLIP}.vit", f"{BLIP}.med"]
    verbosity = logging.get_verbosity()
    # The package silences all warnings and transformers' log as it is imported: that is undone.
    with warnings.catch_warnings(), _bare_packages(), _in_place(modeling_utils, **_moved_names()):
        imported = {name: importlib.import_module(name) for name in names}
    logging.set_verbosity(verbosity)
    _give_dropped_methods(imported[f"{BLIP}.med"].BertPreTrainedModel)
    return imported


@contextlib.contextmanager
def _bare_packages() -> Iterator[None]:
    """Lets submodules of ImageReward be imported without running the `__init__` of it and of its models."""
    spec = importlib.util.find_spec("ImageReward")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("backend package of image_reward is not installed: pip install image-reward==1.5")
    root = Path(next(iter(spec.submodule_search_locations)))
    added = []
    for name, folder in (("ImageReward", root), ("ImageReward.models", root / "models")):
        if name not in sys.modules:
            bare = ModuleType(name)
            bare.__path__ = [str(folder)]
            sys.modules[name] = bare
            added.append(name)
    try:
        yield
    finally:
        for name in added:
            del sys.modules[name]


@contextlib.contextmanager
def _in_place(module: ModuleType, **names: Any) -> Iterator[None]:
    """Those names of the module for a while; afterwards it is as it was."""
    before = {name: getattr(module, name) for name in names if hasattr(module, name)}
    for name, value in names.items():
        setattr(module, name, value)
    try:
        yield
    finally:
        for name in names:
            delattr(module, name)
        for name, value in before.items():
            setattr(module, name, value)


def _moved_names() -> dict[str, Any]:
    """What med.py:31-36 takes from transformers.modeling_utils, where it was until transformers 4.55."""
    from transformers import pytorch_utils

    def find_pruneable_heads_and_indices(*_: Any) -> NoReturn:
        raise NotImplementedError("transformers no longer prunes attention heads, and scoring never does")

    return {
        "apply_chunking_to_forward": pytorch_utils.apply_chunking_to_forward,
        "prune_linear_layer": pytorch_utils.prune_linear_layer,
        "find_pruneable_heads_and_indices": find_pruneable_heads_and_indices,
    }


def _give_dropped_methods(text_model: Any) -> None:
    """What med.py calls of transformers' model class and transformers 5 does without: lines 583, 752 and 761."""
    text_model.all_tied_weights_keys = {}
    text_model.invert_attention_mask = _invert_attention_mask
    text_model.get_head_mask = lambda self, mask, layers: [None] * layers


def _invert_attention_mask(self: Any, mask: torch.Tensor) -> torch.Tensor:
    """(N, tokens) of 1 and 0 -> (N, 1, 1, tokens) of 0 and the lowest number, to be added to attention scores."""
    added: torch.Tensor = (1 - mask[:, None, None, :].to(self.dtype)) * torch.finfo(self.dtype).min
    return added
