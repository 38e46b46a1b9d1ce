"""Makes a CUDA-linked torchvision importable beside a CPU build of torch.

The published torchvision wheels (0.28, 0.29) load their operators from a library that links CUDA. Without CUDA it does
not load, `import torchvision` dies on `operator torchvision::nms does not exist` (pytorch/vision#9077, #9085), and with
it everything in transformers, diffusers, peft and open_clip that looks for torchvision. Declaring the two operators'
schemas is enough for the import; they still have no kernel, so calling `torchvision.ops.nms` goes on failing.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from typing import Any, Literal

SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)

# A torch.library.Library takes its declarations away when it is collected.
_declared: list[Any] = []


def repair() -> Literal["absent", "ok", "patched"]:
    """Make `import torchvision` work if it does not; call before importing what uses torchvision.

    Nothing is declared unless the import failed: a working torchvision declares the same schemas and would clash.

    Returns:
        "absent" if torchvision or torch is not installed, "ok" if it imports by itself, "patched" if it now imports.

    Raises:
        RuntimeError: torchvision fails for another reason than its missing operators.
    """
    if any(importlib.util.find_spec(package) is None for package in ("torch", "torchvision")):
        return "absent"
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if _declared or "torchvision::nms" not in str(error):
            raise
        _declare()
        importlib.import_module("torchvision")
    return "patched" if _declared else "ok"


def _declare() -> None:
    torch_library: Any = importlib.import_module("torch.library")

    for module in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[module]
    library = torch_library.Library("torchvision", "FRAGMENT")
    for schema in SCHEMAS:
        library.define(schema)
    _declared.append(library)
