"""How a run comes to its pipeline: which prompts it will ask for, and whether it needs the text encoders for them."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from bench import config, policy, prompts, random_weights
from bench.config import Backbone, Config
from bench.embeddings import Store, free_text_encoders
from bench.experiments import Row
from bench.policy import Policy
from bench.prompts import Prompt
from bench.ranks import Ranks
from bench.sample import EvaluationSet

# Only after bench.policy, which makes diffusers importable beside a CPU build of torch.
import diffusers  # isort: skip
import transformers  # isort: skip


def texts_of(settings: Config, row: Row, listed: list[Prompt], sets: list[EvaluationSet]) -> list[str]:
    """Every prompt that the run asks for, each once: of `listed` those that its epochs draw, then the evaluation's."""
    drawn = prompts.of_run(listed, settings.sampling.groups, settings.seed, config.planned_epochs(settings, row))
    everyone = [*drawn, *(prompt for each in sets for prompt in each.prompts)]
    return list(dict.fromkeys(prompt.text for prompt in everyone))


def load(settings: Config, row: Row, ranks: Ranks, texts: list[str]) -> Policy:
    """The pipeline on this rank's device, its forwards of one size wherever that may change what they give.

    With stored embeddings no rank keeps the text encoders; the first alone reads them, if one of `texts` is lacking.

    Raises:
        ArchitectureError, ConfigError, PolicyError: the weights or the stored embeddings cannot be used.
    """
    backbone = settings.backbones[row.backbone]
    loaded = _random(settings, backbone, ranks) if settings.weights == "random" else _stored(backbone, ranks, texts)
    fix_rows(loaded, backbone, settings.optim.micro_batch)
    return loaded


def fix_rows(loaded: Policy, backbone: Backbone, rows: int) -> None:
    """Forwards of `rows` rows each wherever a batch's size may move its means: in half precision, and on a GPU."""
    if backbone.dtype != "float32" or loaded.device.type != "cpu":
        loaded.rows = rows


def _random(settings: Config, backbone: Backbone, ranks: Ranks) -> Policy:
    loaded = random_weights.load(backbone, ranks.device, settings.seed)
    loaded.pipe.to(ranks.device)
    return loaded


def _stored(backbone: Backbone, ranks: Ranks, texts: list[str]) -> Policy:
    if not backbone.embeddings:
        return pipeline(backbone, ranks.device)
    store = Store(Path(backbone.embeddings), backbone.weights, backbone.text_tokens, backbone.dtype)
    lacking = ranks.decide(lambda: bool(store.lacking(texts)))
    loaded = pipeline(backbone, ranks.device, text_encoders=lacking and ranks.first)
    loaded.stored = ranks.decide(lambda: store.fill(loaded, texts))
    free_text_encoders(loaded)
    return loaded


def pipeline(backbone: Backbone, device: torch.device, *, text_encoders: bool = True) -> Policy:
    """The policy of a backbone's stored pipeline, on `device`; on a screen with the libraries' progress bars.

    Raises:
        PolicyError: as `policy.load`.
    """
    if not sys.stderr.isatty():
        diffusers.utils.logging.disable_progress_bar()
        transformers.utils.logging.disable_progress_bar()
    loaded = policy.load(
        backbone.weights,
        backbone.resolution,
        backbone.text_tokens,
        backbone.guidance,
        dtype=backbone.dtype,
        cfg_detach=backbone.cfg_detach,
        checkpointing=backbone.checkpointing,
        train=backbone.train,
        text_encoders=text_encoders,
    )
    loaded.pipe.to(device)
    return loaded
