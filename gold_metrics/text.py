"""Is the text that the prompt asks for painted? PP-OCR reads, flow_grpo's edit distance judges.

The papers' reader is PaddleOCR 2.9.1 (PP-OCRv4, English; flow_grpo 879042c flow_grpo/ocr.py:8-18), which needs an older
numpy than everything else here. This one runs PP-OCRv6's detector and recogniser on onnxruntime in this process, from
files that come with the package rapidocr. The rule is theirs, the reader is not: compare with published numbers with
care.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import util
from pathlib import Path
from typing import Any, ClassVar, Literal

from rapidfuzz.distance import Levenshtein

from gold_metrics.scorer import Entry, Picture, Score, missing, versions
from gold_metrics.weights import WeightsError, sha256

DETECTOR, RECOGNISER = "PP-OCRv6_det_small.onnx", "PP-OCRv6_rec_small.onnx"

# PaddleOCR 2.9.1 drops readings below this too (tools/infer/utility.py, drop_score), which flow_grpo leaves at that.
MIN_CONFIDENCE = 0.5

PACKAGES = ("rapidocr", "onnxruntime", "opencv-python-headless", "rapidfuzz")


class Text:
    """1 - distance / length: how much of the quoted text is read in the picture, in [0, 1]. See `text_score`."""

    name: ClassVar[str] = "text"
    head: ClassVar[str] = "Text (PP-OCRv6)"
    higher_is_better: ClassVar[bool] = True
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    per: ClassVar[Literal["image", "set"]] = "image"

    def __init__(self, threads: int = 1, models: Path | None = None) -> None:
        """`threads` per picture (our choice: 1, so that ranks do not fight); `models`: folder of the two ONNX files.

        Raises:
            WeightsError: the reader is not installed, or lacks a model file.
        """
        self._models = {name: _model(name, models) for name in (DETECTOR, RECOGNISER)}
        self._reader = _reader(self._models, threads)

    @property
    def definition(self) -> dict[str, Any]:
        """The reader's files, packages and threshold, and the rule."""
        return {
            "scorer": self.name,
            "version": 1,
            "reader": [{"file": name, "sha256": sha256(path)} for name, path in self._models.items()],
            "precision": "fp32",
            "channels": "BGR, as the reader was trained",
            "direction_classifier": False,
            "min_confidence": MIN_CONFIDENCE,
            "value": "1 - min(edit distance, length) / length without spaces and case; 1 if part of the reading",
            "packages": versions(*PACKAGES),
        }

    def fits(self, entry: Entry) -> bool:
        """Whether the prompt has a text between two double quotes."""
        return entry.prompt.count('"') >= 2

    def score(self, images: Sequence[Picture], entries: Sequence[Entry]) -> list[Score]:
        """N scores in [0, 1] with the reading as their reply; NaN where nothing is quoted or the reader fails."""
        return [self._score(image, entry) for image, entry in zip(images, entries, strict=True)]

    def _score(self, image: Picture, entry: Entry) -> Score:
        wanted = quoted(entry.prompt)
        if not _bare(wanted):
            return missing(f"the prompt {entry.prompt!r} quotes no text to look for")
        try:
            lines = self.read(image)
        except Exception as error:  # the reader raises four kinds of its own; any costs this picture its score alone
            said = str(error).strip().splitlines()
            return missing(f"the reader failed: {said[-1] if said else type(error).__name__}")
        return Score(text_score("".join(lines), wanted), reply="\n".join(lines))

    def read(self, image: Picture) -> list[str]:
        """The lines read in an RGB picture, uint8 (height, width, 3), from the top down; empty for none."""
        return list(self._reader(image[..., ::-1].copy()).txts or ())


def quoted(prompt: str) -> str:
    """The part between the first two double quotes; empty without (flow_grpo 879042c flow_grpo/ocr.py:31)."""
    parts = prompt.split('"', 2)
    return parts[1] if len(parts) == 3 else ""


def text_score(seen: str, wanted: str) -> float:
    """1 - min(d, L) / L with d the edit distance of what is seen to the L letters wanted, 0 if they are part of it.

    Spaces and case do not count (flow_grpo 879042c flow_grpo/ocr.py:45-59).

    Raises:
        ValueError: nothing is wanted.
    """
    seen, wanted = _bare(seen), _bare(wanted)
    if not wanted:
        raise ValueError("wanted a text to look for, found none")
    distance = 0 if wanted in seen else Levenshtein.distance(seen, wanted)
    return 1 - min(distance, len(wanted)) / len(wanted)


def _bare(text: str) -> str:
    return text.replace(" ", "").lower()


def _model(name: str, folder: Path | None) -> Path:
    package = util.find_spec("rapidocr")
    if package is None or package.origin is None or util.find_spec("onnxruntime") is None:
        raise WeightsError(
            "text needs the packages rapidocr and onnxruntime, which are not installed: "
            "`pip install rapidocr==3.10.0 onnxruntime==1.31.1` brings the reader and its models"
        )
    path = (folder or Path(package.origin).parent / "models") / name
    if not path.is_file():
        raise WeightsError(f"text needs {name}, which is not in {path.parent}: rapidocr 3.10.0 ships it")
    return path


def _reader(models: dict[str, Path], threads: int) -> Any:
    import cv2
    from rapidocr import RapidOCR

    cv2.setNumThreads(threads)
    # With the paths given rapidocr looks for nothing else, and so never asks the network.
    return RapidOCR(
        params={
            "Global.log_level": "critical",
            "Global.text_score": MIN_CONFIDENCE,
            "Global.use_cls": False,  # flow_grpo: use_angle_cls=False
            "Det.model_path": str(models[DETECTOR]),
            "Rec.model_path": str(models[RECOGNISER]),
            "EngineConfig.onnxruntime.intra_op_num_threads": threads,
            "EngineConfig.onnxruntime.inter_op_num_threads": threads,
        }
    )
