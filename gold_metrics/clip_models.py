"""What the CLIP judges share: their files, their models read from a folder, who of N pictures can be scored."""

from __future__ import annotations

import contextlib
import math
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from gold_metrics.scorer import Entry, Picture, Score, missing, versions
from gold_metrics.torchvision_repair import repair
from gold_metrics.weights import WEIGHTS, WeightsError, locate, sha256

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Files:
    """A scorer's files on this machine.

    Attributes:
        paths: by the repository and the name of each file.
    """

    paths: Mapping[tuple[str, str], Path]

    @classmethod
    def of(cls, key: str, folders: Mapping[str, Path | str | None]) -> Files:
        """Those that `WEIGHTS[key]` lists, from the folders of their repositories.

        Args:
            folders: repository -> folder; where one is None, its files are what `weights fetch` brought.

        Raises:
            WeightsError: a file is missing, or is not the one that was noted.
        """
        given = {repo: Path(folder) for repo, folder in folders.items() if folder is not None}
        where = (locate(key) if len(given) < len(folders) else {}) | given
        paths = {(each.repo, each.file): where[each.repo] / each.file for each in WEIGHTS[key]}
        for path in paths.values():
            if not path.is_file():
                raise WeightsError(f"{key} wants {path.name} in {path.parent}, found none")
        return cls(paths)

    @property
    def identities(self) -> list[dict[str, str]]:
        """Repository, name and sha256 of each file: JSON data for a definition."""
        return [{"repo": repo, "file": file, "sha256": sha256(path)} for (repo, file), path in self.paths.items()]

    def folder(self, repo: str) -> Path:
        """Where the files of this repository lie."""
        return next(path.parent for (each, _), path in self.paths.items() if each == repo)


# What `pil_processor` does; its settings are in one of the files.
PIL = {"processor": "CLIPImageProcessorPil", "resize": "by PIL", "antialias": True}


def define(scorer: str, files: Files, preprocessing: Mapping[str, Any], number: str, *packages: str) -> dict[str, Any]:
    """The definition of a judge that runs in float32 on transformers' CLIP: JSON data."""
    return {
        "scorer": scorer,
        "version": 1,
        "files": files.identities,
        "preprocessing": dict(preprocessing),
        "number": number,
        "precision": "fp32, no TF32",
        "backend": "transformers",
        "packages": versions("torch", "transformers", *packages),
    }


def device_of(name: str) -> torch.device:
    """The device of that name; where it is empty, cuda if there is one."""
    import torch

    return torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a torch file; nothing in it is executed.

    Raises:
        WeightsError: it holds something else.
    """
    import torch

    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError, LookupError, OSError) as error:
        raise WeightsError(f"{path}: wanted a file of torch weights: {_one_line(error)}") from None
    found = found.get("state_dict", found) if isinstance(found, dict) else found
    if not isinstance(found, dict) or not all(isinstance(value, torch.Tensor) for value in found.values()):
        raise WeightsError(f"{path}: wanted tensors by name, found {type(found).__name__}")
    return found


def fill(model: torch.nn.Module, path: Path) -> None:
    """Gives the model the weights of a torch file: every one of them, and none left over.

    Raises:
        WeightsError: they are not of this model.
    """
    try:
        model.load_state_dict(read_tensors(path), strict=True)
    except RuntimeError as error:
        raise misfit(path, error) from None


def misfit(path: Path, error: RuntimeError) -> WeightsError:
    """Torch's complaint about weights of another model, in one line."""
    return WeightsError(f"{path} does not fit the model: {_one_line(error)}")


def _one_line(error: Exception) -> str:
    # Our choice: the length of three lines, for torch names every tensor that does not fit.
    return " ".join(str(error).split())[:300] or type(error).__name__


def clip_model(folder: Path, device: torch.device) -> Any:
    """transformers' CLIPModel in float32, in evaluation mode; each of its weights is from the folder.

    Raises:
        WeightsError: the folder has no such model, or not all of its weights.
    """
    repair()
    from transformers import CLIPModel

    return whole_model(CLIPModel, folder, device)


def whole_model(kind: Any, folder: Path, device: torch.device, unused: Sequence[str] = ()) -> Any:
    """A model of transformers' class `kind` in float32, in evaluation mode, none of its weights left random.

    Args:
        unused: parts of the names of weights that no score depends on.

    Raises:
        WeightsError: the folder has no such model, or not all of its weights.
    """
    import torch
    from safetensors import SafetensorError

    name = kind.__name__
    try:
        model, found = kind.from_pretrained(
            folder, dtype=torch.float32, local_files_only=True, use_safetensors=True, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise WeightsError(f"{folder}: wanted a {name}: {_one_line(error)}") from None
    absent = sorted(key for key in found["missing_keys"] if not any(part in key for part in unused))
    if absent:
        raise WeightsError(f"{folder}: the {name} lacks {len(absent)} of its weights, {absent[0]} first")
    return model.to(device).eval()


@contextlib.contextmanager
def full_precision() -> Iterator[None]:
    """Float32 is float32 on a GPU too: torch's default lets convolutions round to TF32's ten bits."""
    import torch

    switches: tuple[Any, ...] = (torch.backends.cudnn, torch.backends.cuda.matmul)
    before = [switch.allow_tf32 for switch in switches]
    for switch in switches:
        switch.allow_tf32 = False
    try:
        yield
    finally:
        for switch, value in zip(switches, before, strict=True):
            switch.allow_tf32 = value


def pil_processor(folder: Path) -> Any:
    """CLIP's preprocessing by PIL. `CLIPImageProcessor` is torchvision's where that is installed: other pixels."""
    repair()
    from transformers import CLIPImageProcessorPil

    return CLIPImageProcessorPil.from_pretrained(folder, local_files_only=True)


def pil_pixels(processor: Any, images: Sequence[Picture]) -> torch.Tensor:
    """N pictures -> float32 (N, 3, side, side)."""
    # As PIL images: of an array with 3 rows the processor would take the rows for channels.
    pixels: torch.Tensor = processor([Image.fromarray(image) for image in images], return_tensors="pt")["pixel_values"]
    return pixels


def tokenizer(folder: Path) -> Any:
    """CLIP's tokenizer of that folder."""
    repair()
    from transformers import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(folder, local_files_only=True)


def logits(model: Any, words: Any, pixels: torch.Tensor, prompts: Sequence[str]) -> torch.Tensor:
    """exp(logit_scale) * cosine of each picture with its own prompt, in one forward pass: (N,).

    Prompts are padded to the model's full length, so that no text is computed in another shape because of its
    neighbors; the pads come after the token that stands for the text, which sees none of them.
    """
    import torch

    length = model.config.text_config.max_position_embeddings
    tokens = words(list(prompts), padding="max_length", truncation=True, max_length=length, return_tensors="pt")
    with torch.inference_mode():
        # The embeddings of `forward`: since transformers 5 `get_image_features` returns an object, not the tensor.
        embedded = model(pixel_values=pixels.to(model.device), **tokens.to(model.device))
        cosines = torch.einsum("nd,nd->n", embedded.image_embeds, embedded.text_embeds)
        scaled: torch.Tensor = model.logit_scale.exp() * cosines
    return scaled


def no_prompt(image: Picture, entry: Entry) -> str:
    """Why a judge of picture and prompt cannot score the entry; empty if it can."""
    return "" if entry.prompt.strip() else "the entry has no prompt to compare the picture with"


def scored(
    images: Sequence[Picture],
    entries: Sequence[Entry],
    fault: Callable[[Picture, Entry], str],
    numbers: Callable[[list[Picture], list[str]], torch.Tensor],
) -> list[Score]:
    """N scores in order: one call of `numbers` for all that have no fault, NaN with its fault for each other."""
    faults = [fault(image, entry) for image, entry in zip(images, entries, strict=True)]
    good = [index for index, each in enumerate(faults) if not each]
    scores = [missing(each) for each in faults]
    with full_precision():
        found = numbers([images[i] for i in good], [entries[i].prompt for i in good]).tolist() if good else []
    for index, number in zip(good, found, strict=True):
        scores[index] = Score(number) if math.isfinite(number) else missing(f"the model's number is {number}")
    return scores
