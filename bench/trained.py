"""What was trained, as files that the stock diffusers pipeline reads: an adapter, or all of a transformer."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from bench import gradient
from bench.policy import Policy, PolicyError

# Only after bench.policy, which makes diffusers importable beside a CPU build of torch.
from diffusers.loaders.lora_base import LORA_ADAPTER_METADATA_KEY, LORA_WEIGHT_NAME_SAFE  # isort: skip
from diffusers.utils import SAFETENSORS_WEIGHTS_NAME  # isort: skip
from huggingface_hub import save_torch_state_dict  # isort: skip
from peft.utils import get_peft_model_state_dict  # isort: skip


def save(policy: Policy, folder: Path, writes: bool) -> None:
    """Writes an adapter to `folder/lora`, or all of the transformer to `folder/transformer`.

    Args:
        writes: whether this rank does; each of a sharded transformer has to call.
    """
    if not getattr(policy.transformer, "peft_config", None):
        _save_transformer(policy, folder / "transformer", writes)
    elif writes:
        save_lora(policy, folder / "lora")


def _save_transformer(policy: Policy, folder: Path, writes: bool) -> None:
    state = {}
    for name, tensor in policy.transformer.state_dict().items():
        whole = gradient.whole(tensor)
        if writes:
            state[name] = whole.detach().cpu().contiguous()
    if writes:
        policy.transformer.save_config(folder)
        save_torch_state_dict(state, folder, filename_pattern=SAFETENSORS_WEIGHTS_NAME.replace(".", "{suffix}."))


def save_lora(policy: Policy, folder: Path) -> None:
    """Writes the adapter as `load_lora_weights` of the stock pipeline reads it."""
    folder.mkdir(parents=True, exist_ok=True)
    prefix = type(policy.pipe).transformer_name
    layers = {f"{prefix}.{k}": v.contiguous() for k, v in get_peft_model_state_dict(policy.transformer).items()}
    settings = policy.transformer.peft_config["default"].to_dict()
    listed = {f"{prefix}.{k}": sorted(v) if isinstance(v, set) else v for k, v in settings.items()}
    # One metadata key, without which alpha would be lost: safetensors writes several in random order.
    metadata = {LORA_ADAPTER_METADATA_KEY: json.dumps(listed, sort_keys=True)}
    partial = folder / f".{LORA_WEIGHT_NAME_SAFE}.partial"
    try:
        save_file(layers, partial, metadata=metadata)
        partial.replace(folder / LORA_WEIGHT_NAME_SAFE)
    finally:
        partial.unlink(missing_ok=True)


def load_lora(policy: Policy, folder: Path) -> None:
    """Puts the adapter that `save_lora` or diffusers wrote to `folder` into the transformer, frozen.

    Raises:
        PolicyError: there is none, or it was made for another backbone.
    """
    path, layers = folder / LORA_WEIGHT_NAME_SAFE, dict(policy.transformer.named_modules())
    kind = type(policy.pipe)
    try:
        with safe_open(path, "pt") as file:
            shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118, no mapping
    except (OSError, SafetensorError) as error:
        raise PolicyError(f"no adapter could be read from {path}: {error}") from error
    for name, shape in shapes.items():
        layer, _, part = name.removeprefix(f"{kind.transformer_name}.").rpartition(".lora_")
        found = getattr(layers.get(layer), "in_features" if part == "A.weight" else "out_features", None)
        if found != shape[1 if part == "A.weight" else 0]:
            raise PolicyError(
                f"the adapter {path} was made for another backbone than this {kind.__name__}: its {name} of shape "
                f"{tuple(shape)} fits no layer here; choose the adapter of a run on these weights"
            )
    policy.pipe.load_lora_weights(folder)
    policy.transformer.requires_grad_(False)
