"""GenEval: are the objects there that the prompt names, in number, color and place?

Detector and color reader are `gold_metrics.geneval_detector`'s, which are not the published benchmark's; its rules are
(`gold_metrics.geneval_rules`). A table of these numbers says so in its head.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

from gold_metrics import geneval_rules, weights
from gold_metrics.geneval_detector import (
    BATCH,
    CLIP,
    COLOR_READING,
    MASK2FORMER,
    PREPROCESSING,
    ColorReader,
    Detector,
    crop,
)
from gold_metrics.geneval_rules import MAX_OBJECTS, RULES, Seen
from gold_metrics.scorer import Entry, Picture, Score, missing, versions

Rule = Literal["correct", "strict", "partial"]

FILES = ("config.json", "model.safetensors")
PACKAGES = ("torch", "transformers", "numpy", "pillow")


class GenEval:
    """1 or 0 by GenEval's rules or by the training reward's, or that reward itself: see `geneval_rules.Verdict`.

    A target is a line of GenEval's prompt file: `tag`, `include` and, when counting, `exclude`. The published overall
    number is the mean of the six tasks' means (`geneval_rules.overall`), not of all images.
    """

    name: ClassVar[str] = "geneval"
    higher_is_better: ClassVar[bool] = True
    per: ClassVar[Literal["image", "set"]] = "image"

    def __init__(
        self,
        rule: Rule = "correct",
        device: str = "",
        detector: Path | None = None,
        clip: Path | None = None,
        batch: int = BATCH,
    ) -> None:
        """The judge by one of the three rules.

        Args:
            rule: `correct` of the benchmark, `strict` and `partial` of the reward server that flow_grpo trains on.
            device: of both models; empty for CUDA if there is any.
            detector, clip: folders of other weights than `weights.WEIGHTS["geneval"]`.
            batch: pictures per forward of the detector, for its memory; the scores are the same.

        Raises:
            ValueError: no such rule.
            WeightsError: the weights are not on this machine.
        """
        if rule not in get_args(Rule):
            raise ValueError(f"rule should be one of {', '.join(get_args(Rule))}, found {rule!r}")
        self.rule: Rule = rule
        self._device, self._batch = device, batch
        self._given = {repo: folder for repo, folder in ((MASK2FORMER, detector), (CLIP, clip)) if folder}
        located = weights.locate(self.name) if len(self._given) < 2 else {}
        self._folders = located | self._given

    @property
    def head(self) -> str:
        """Says that the detector is not the published one, and the rule if it is not the benchmark's."""
        return "GenEval (HF detector)" if self.rule == "correct" else f"GenEval (HF detector, {self.rule})"

    @property
    def range(self) -> tuple[float, float]:
        """[0, 1]; a partial score falls by one for each object too many, of which 16 are counted."""
        return (2.0 - MAX_OBJECTS, 1.0) if self.rule == "partial" else (0.0, 1.0)

    @property
    def definition(self) -> dict[str, Any]:
        """Both checkpoints, what is done to the pictures, the rule and its thresholds."""
        return {
            "scorer": self.name,
            "version": 1,
            "rule": self.rule,
            **RULES,
            "checkpoints": [self._checkpoint(repo, file) for repo in sorted(self._folders) for file in FILES],
            "published": "mmdet's mask2former_swin-s-p4-w7-224_lsj_8x2_50e_coco: another checkpoint, another metric",
            "detector": PREPROCESSING,
            "color_reader": COLOR_READING,
            "backend": "transformers",
            "precision": "fp32, no TF32",
            "packages": versions(*PACKAGES),
        }

    def _checkpoint(self, repo: str, file: str) -> dict[str, str]:
        named = "local" if repo in self._given else repo
        return {"repo": named, "file": file, "sha256": weights.sha256(self._folders[repo] / file)}

    @functools.cached_property
    def _detector(self) -> Detector:
        return Detector(self._folders[MASK2FORMER], self._device, self._batch)

    @functools.cached_property
    def _color_reader(self) -> ColorReader:
        return ColorReader(self._folders[CLIP], self._device)

    def fits(self, entry: Entry) -> bool:
        """Whether the target is GenEval's; of prompts of other sets it says nothing."""
        return entry.target is not None and {"tag", "include"} <= entry.target.keys()

    def part(self, entry: Entry) -> str:
        """GenEval's task: the benchmark's number is the mean of the six tasks' means (`geneval_rules.overall`)."""
        return str((entry.target or {}).get("tag", ""))

    def score(self, images: Sequence[Picture], entries: Sequence[Entry]) -> list[Score]:
        """N scores with what was seen as their reply (JSON: class -> [left, top, right, bottom, score, color]).

        NaN for a target that is missing or cannot be judged.
        """
        faults = [self._fault(entry.target) for entry in entries]
        judged = [index for index, fault in enumerate(faults) if not fault]
        scores = [missing(fault) for fault in faults]
        targets = [entries[index].target or {} for index in judged]
        seen = self._look([images[index] for index in judged], targets)
        for index, each, target in zip(judged, seen, targets, strict=True):
            scores[index] = Score(float(getattr(geneval_rules.judge(each, target), self.rule)), reply=_told(each))
        return scores

    def _fault(self, target: Mapping[str, Any] | None) -> str:
        if target is None:
            return "the manifest gives no target for this prompt, only its text"
        if fault := geneval_rules.fault(target):
            return f"the target cannot be judged: {fault}"
        named = {one["class"] for one in [*target["include"], *(target.get("exclude") or [])]}
        unknown = sorted(named - set(self._detector.names))
        return f"the detector knows no {', '.join(unknown)}" if unknown else ""

    def _look(self, images: Sequence[Picture], targets: Sequence[Mapping[str, Any]]) -> list[Seen]:
        found = self._detector(images)
        seen = [geneval_rules.keep(each, target["tag"]) for each, target in zip(found, targets, strict=True)]
        asked = [(i, *one) for i, target in enumerate(targets) for one in geneval_rules.colored(target, seen[i])]
        crops = [crop(images[i], seen[i][name][rank]) for i, name, rank in asked]
        colors = self._color_reader(crops, [name for _, name, _ in asked]) if asked else []
        of_image: list[dict[tuple[str, int], str]] = [{} for _ in images]
        for (i, name, rank), color in zip(asked, colors, strict=True):
            of_image[i][name, rank] = color
        return [geneval_rules.paint(each, painted) for each, painted in zip(seen, of_image, strict=True)]


def _told(seen: Seen) -> str:
    told = {name: [[*thing.box, round(thing.score, 4), thing.color] for thing in some] for name, some in seen.items()}
    return json.dumps(told)
