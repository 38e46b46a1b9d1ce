"""Adapters that others trained: their files read in the layouts of peft and diffusers, and put into a policy."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from safetensors import SafetensorError, safe_open
from torch import Tensor

from bench.policy import Policy, PolicyError

CONFIG = "adapter_config.json"
# What a hub repository is asked for: an adapter under any of its usual names, never a whole pipeline.
PATTERNS = ("*lora*.safetensors", "*adapter*.safetensors", f"*{CONFIG}")
PREFIXES = ("base_model.model.", "transformer.")  # of peft's save_pretrained, and of diffusers
METADATA = "lora_adapter_metadata"  # diffusers: the adapter's settings, their keys with its prefix
PARTS = {
    "A": r"lora_A(\.\w+)?\.weight|lora\.down\.weight|lora_down\.weight",
    "B": r"lora_B(\.\w+)?\.weight|lora\.up\.weight|lora_up\.weight",
    "alpha": "alpha",
}
# Settings of peft that change what an adapter computes, and that nothing here would compute.
BEYOND = (
    "use_dora", "use_rslora", "alpha_pattern", "modules_to_save", "lora_bias", "layer_replication", "use_qalora",
    "alora_invocation_tokens", "target_parameters", "trainable_token_indices",
)  # fmt: skip
# Beginnings that leave the frozen weights alone; the others (pissa, olora, loftq, corda, ...) change them,
# and an adapter as peft saves it is what lies between the two.
BEGINNINGS = (None, True, False, "gaussian", "eva", "orthogonal")
NAMED = 3  # keys in a message


@dataclass(frozen=True)
class Adapter:
    """A low-rank adapter of linear layers.

    Attributes:
        down, up: by layer, (r, in) and (out, r): the layer gains alpha / r up down.
        alpha: by layer.
        sha256: of the file.
    """

    down: dict[str, Tensor]
    up: dict[str, Tensor]
    alpha: dict[str, float]
    sha256: str


def read(folder: Path) -> Adapter:
    """The adapter in the one safetensors file in `folder` or below; its alpha from the file, or adapter_config.json.

    Without any alpha it is the rank, as diffusers takes it.

    Raises:
        PolicyError: there is no such file, or several, or it holds what is no adapter of linear layers.
    """
    path = _only_file(folder)
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, no mapping
            metadata = json.loads((file.metadata() or {}).get(METADATA, "{}"))
        beside = path.with_name(CONFIG)
        settings = json.loads(beside.read_text(encoding="utf-8")) if beside.exists() else metadata
        if not isinstance(settings, dict):
            raise ValueError(f"its settings are no object but {type(settings).__name__}")
        settings = _unprefixed(settings)
    except (OSError, SafetensorError, ValueError) as error:
        raise PolicyError(f"no adapter could be read from {path}: {error}") from error
    _check_settings(settings, path)
    parts = _sorted(tensors, path)
    stated = settings.get("lora_alpha")
    alpha = {layer: float(down.shape[0] if stated is None else stated) for layer, down in parts["A"].items()}
    alpha |= {layer: float(found) for layer, found in parts["alpha"].items()}
    return Adapter(parts["A"], parts["B"], alpha, hashlib.sha256(path.read_bytes()).hexdigest())


def _check_settings(settings: dict[str, Any], path: Path) -> None:
    """Whether they are of an adapter that two matrices a layer and an alpha are all of."""
    strange = [name for name in BEYOND if settings.get(name)]
    if (begun := settings.get("init_lora_weights")) not in BEGINNINGS:
        strange.append(f"init_lora_weights {begun!r}")
    if strange:
        raise PolicyError(f"the adapter {path} was made with {', '.join(strange)}, which cannot be judged here")
    alpha = settings.get("lora_alpha", 1)
    if alpha is not None and (not isinstance(alpha, int | float) or not 0 < alpha < math.inf):
        raise PolicyError(f"the adapter {path} wants a lora_alpha above 0, found {alpha!r}")


def _only_file(folder: Path) -> Path:
    found = sorted(folder.rglob("*.safetensors"))
    if not found:
        raise PolicyError(f"no adapter in {folder}: no *.safetensors, {_contents(folder)}; name the adapter's folder")
    if len(found) != 1:
        named = ", ".join(str(path.relative_to(folder)) for path in found[:NAMED])
        raise PolicyError(
            f"wanted one *.safetensors with an adapter in {folder}, found {len(found)}: {named}; "
            "name the folder of one of them, of a repository as REPO:SUBFOLDER"
        )
    return found[0]


def _contents(folder: Path) -> str:
    names = sorted(path.name for path in folder.iterdir())
    return f"but {_shown(names)}" if names else "it is empty"


def _unprefixed(metadata: dict[str, Any]) -> dict[str, Any]:
    return {key.removeprefix("transformer."): value for key, value in metadata.items()}


def _sorted(tensors: dict[str, Tensor], path: Path) -> dict[str, dict[str, Tensor]]:
    """The tensors by part and layer."""
    parts: dict[str, dict[str, Tensor]] = {part: {} for part in PARTS}
    unknown = []
    for key, tensor in tensors.items():
        name = key
        while prefix := next((each for each in PREFIXES if name.startswith(each)), ""):
            name = name.removeprefix(prefix)
        found = ((part, re.fullmatch(rf"(.+?)\.({pattern})", name)) for part, pattern in PARTS.items())
        part, match = next(((part, match) for part, match in found if match), ("", None))
        if match:
            parts[part][match[1]] = tensor
        else:
            unknown.append(key)
    unknown += [f"{layer} without its other half" for layer in sorted(set(parts["A"]) ^ set(parts["B"]))]
    if unknown or not parts["A"]:
        raise PolicyError(f"{path} holds what is no part of an adapter: {_shown(unknown) or 'no key at all'}")
    if unfit := [
        f"{part} of {layer}" for part, of in parts.items() for layer, each in of.items() if not _fit(part, each)
    ]:
        raise PolicyError(f"{path} wants finite matrices and an alpha above 0 for each layer, unlike {_shown(unfit)}")
    return parts


def _fit(part: str, tensor: Tensor) -> bool:
    """Whether it is a matrix of finite numbers, or one alpha above 0."""
    shaped = tensor.numel() == 1 and tensor.item() > 0 if part == "alpha" else tensor.ndim == 2 and tensor.numel() > 0
    return bool(shaped and tensor.isfinite().all())


def _shown(keys: list[str]) -> str:
    return ", ".join(keys[:NAMED]) + (f" and {len(keys) - NAMED} more" if len(keys) > NAMED else "")


def put(policy: Policy, adapter: Adapter) -> tuple[list[str], list[Tensor]]:
    """Puts the adapter into the policy, in the place of the one that it has; returns as `Policy.add_lora` does.

    Raises:
        PolicyError: a layer of it is not there, or of another shape; the policy is as it was.
    """
    check_fit(policy, adapter)
    transformer = policy.transformer
    transformer.unload_lora()
    policy.__dict__.pop("_adapted", None)  # the layers of the adapter that was there
    ranks = {layer: down.shape[0] for layer, down in adapter.down.items()}
    rank, alpha = (Counter(each.values()).most_common(1)[0][0] for each in (ranks, adapter.alpha))
    settings = LoraConfig(
        r=int(rank),
        lora_alpha=alpha,
        target_modules=sorted(ranks),
        rank_pattern={layer: each for layer, each in ranks.items() if each != rank},
        alpha_pattern={layer: each for layer, each in adapter.alpha.items() if each != alpha},
    )
    transformer.add_adapter(settings)
    for layer, down in adapter.down.items():
        module = transformer.get_submodule(layer)
        for part, values in ((module.lora_A, down), (module.lora_B, adapter.up[layer])):
            part["default"].weight.data = values.to(policy.device, torch.float32)
    found = {name: each for name, each in transformer.named_parameters() if each.requires_grad}
    return list(found), list(found.values())


def check_fit(policy: Policy, adapter: Adapter) -> None:
    """Whether each layer of the adapter is a linear layer here, of its shape.

    Raises:
        PolicyError: one is not; the message names some.
    """
    layers = dict(policy.transformer.named_modules())
    wrong = []
    for layer, down in adapter.down.items():
        there, up = layers.get(layer), adapter.up[layer]
        wanted = (getattr(there, "in_features", None), getattr(there, "out_features", None))
        if there is None:
            wrong.append(f"{layer} is no layer here")
        elif (down.shape[1], up.shape[0]) != wanted or down.shape[0] != up.shape[1]:
            wrong.append(f"{layer} maps {down.shape[1]} to {up.shape[0]} and not {wanted[0]} to {wanted[1]}")
    if wrong:
        raise PolicyError(f"the adapter was made for another backbone than this {type(policy.pipe).__name__}: "
                          f"{_shown(wrong)}; name its own with --backbone")  # fmt: skip
