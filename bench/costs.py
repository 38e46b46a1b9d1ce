"""What a run costs, from its settings alone: passes, operations, memory and disk. `bench.plan` prints it.

Operations and activations of one image are counted on the meta device (`bench.counting`), how often a run makes one in
`bench.passes`. The judges are left out: they are not the run's.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from bench.checkpoint import KEEP
from bench.config import Backbone, Config, ConfigError, planned_updates
from bench.counting import Counts, Shape, count, trained_whole
from bench.experiments import Row, find_row
from bench.passes import Passes, embedded, passes_of
from bench.policy import DTYPES
from bench.session import check_groups, recipe_of
from bench.space import blocks

MEMORY = 149e9  # bytes of one H200: 139 GiB
PEAK = 790.0  # TFLOP/s of one H200, bf16 products of 8192^3 random matrices: measured, 769 to 798
# Published runs reach 12 to 25 % of that peak: DanceGRPO on FLUX 12-14, flow_grpo on SD3.5-M 19, verl-omni about 25.
UTILISATION = 0.2
SINGLE = 4  # bytes of a float32
STATE_COPIES = 7  # parameter, gradient, two moments of AdamW, average; `update.gradients` holds a step's and their sum
SAVED_COPIES = 4  # of them in a checkpoint: parameter, two moments, average
PNG_BYTES = 1.06  # a pixel: mean of three photographs at 512 pixels, 0.98 to 1.23, written as `image_set` writes them
SCORE_BYTES = 38.3  # a score in the parquet files of the tiny study
RECORD_BYTES = 3600  # an update in the metrics and diagnostics of the tiny study: 3,000 to 4,100


@dataclass(frozen=True)
class Plan:
    """What one run costs. Numbers of things are exact; `tflop_*` are 1e12 operations; `bytes_*` as named.

    Attributes:
        images_rollout, images_evaluation: decoded images.
        forwards_*, backwards: rows through the transformer.
        shared_embeddings: bytes of prompt embeddings on disk: what the run draws for training and all of its evaluation
            sets, each prompt once; at most that where a prompt file is yet to be made. The rows of a backbone share
            what they have in common, those of a task all of it.
        hours: GPU-hours at the stated utilisation, of all GPUs together, which share rollouts, updates and evaluations.
            Left out: a GPU without a batch in the last round of an evaluation set repeats one.
    """

    row: str
    scale: str
    dtype: str
    parameters: int
    trainable: int
    updates: int
    images_rollout: int
    images_evaluation: int
    forwards_rollout: int
    forwards_training: int
    forwards_evaluation: int
    backwards: int
    tflop_rollout: float
    tflop_training: float
    tflop_evaluation: float
    hours: float
    bytes_weights: int
    bytes_encoders: int
    bytes_optimizer: int
    bytes_trajectories: int
    bytes_activations: int
    disk_checkpoints: int
    disk_images: int
    disk_scores: int
    disk_record: int
    shared_embeddings: int

    def total(self, prefix: str) -> float:
        """The sum of the fields whose names begin with `prefix`; a whole number where they are."""
        return sum(getattr(self, field.name) for field in fields(self) if field.name.startswith(prefix))


def shape_of(backbone: Backbone) -> Shape:
    """What the cost of one image depends on.

    Raises:
        ConfigError: a dtype in which no policy is loaded.
    """
    if backbone.dtype not in DTYPES:
        raise ConfigError(f"dtype must be one of {', '.join(DTYPES)}, found {backbone.dtype!r}")
    return Shape(
        weights=backbone.weights,
        resolution=backbone.resolution,
        text_tokens=backbone.text_tokens,
        rank=backbone.lora.rank,
        targets=tuple(backbone.lora.targets),
        dtype=backbone.dtype,
        checkpointing=backbone.checkpointing,
    )


def plan(settings: Config, utilisation: float = UTILISATION, gpus: int = 1) -> Plan:
    """The costs of one run.

    Args:
        utilisation: share of `PEAK` that is reached, in (0, 1].
        gpus: that share the run; they change the memory each needs, not the hours of all.

    Raises:
        ConfigError, RowError, PromptError, ArchitectureError: the settings do not fit together or name what is not.
    """
    if not 0 < utilisation <= 1 or gpus < 1:
        raise ConfigError(f"wanted a utilisation in (0, 1] and at least one GPU, found {utilisation} and {gpus}")
    row = find_row(settings.row)
    check_groups(settings, recipe_of(settings, row), gpus)
    backbone = settings.backbones[row.backbone]
    costs, passes, size = count(shape_of(backbone)), passes_of(settings, row), DTYPES[backbone.dtype].itemsize
    costs = trained_whole(costs) if backbone.train == "full" else costs
    forwards = _forwards(settings, backbone, costs, passes)
    rollout, training, evaluation = _work(costs, passes, forwards)
    return Plan(
        row=row.name,
        scale=settings.scale,
        dtype=backbone.dtype,
        parameters=costs.parameters or costs.trainable,  # of the transformer, frozen or trained whole
        trainable=costs.trainable,
        updates=planned_updates(settings, row),
        images_rollout=passes.images,
        images_evaluation=passes.evaluated,
        tflop_rollout=rollout,
        tflop_training=training,
        tflop_evaluation=evaluation,
        hours=(rollout + training + evaluation) / (utilisation * PEAK) / 3600,
        **forwards,
        shared_embeddings=embedded(settings, row) * costs.embedding * size if backbone.embeddings else 0,
        **_memory(settings, backbone, costs, passes, gpus),
        **disk(settings, row, costs.trainable, passes),
    )


def _halves(backbone: Backbone, costs: Counts) -> int:
    return 1 if costs.distilled or backbone.guidance == 1 else 2


def _forwards(settings: Config, backbone: Backbone, costs: Counts, passes: Passes) -> dict[str, int]:
    halves = _halves(backbone, costs)
    return {
        "forwards_rollout": halves * passes.rollout,
        "forwards_training": halves * passes.transitions * (2 if settings.optim.kl_beta else 1),  # KL: the reference's
        "forwards_evaluation": halves * settings.evaluation.steps * passes.evaluated,
        "backwards": passes.transitions * (1 if backbone.cfg_detach else halves),
    }


def _work(costs: Counts, passes: Passes, forwards: dict[str, int]) -> tuple[float, float, float]:
    image, prompt = costs.decode, costs.encode
    rollout = forwards["forwards_rollout"] * costs.forward + passes.images * image + passes.prompts * prompt
    training = forwards["forwards_training"] * costs.forward + forwards["backwards"] * costs.backward
    evaluation = forwards["forwards_evaluation"] * costs.forward + passes.evaluated * (image + prompt)
    return rollout / 1e12, training / 1e12, evaluation / 1e12


def _memory(settings: Config, backbone: Backbone, costs: Counts, passes: Passes, gpus: int) -> dict[str, int]:
    halves = 1 if backbone.cfg_detach else _halves(backbone, costs)
    size = DTYPES[backbone.dtype].itemsize
    tensors = 3 * (settings.sampling.steps - 1) + passes.finals  # state, next, mean of each transition; what is decoded
    trains, shards = passes.epoch > 0, gpus if backbone.train == "full" else 1
    return {
        "bytes_weights": costs.parameters * size + costs.autoencoder * SINGLE,
        "bytes_encoders": 0 if backbone.embeddings else costs.encoders * size,
        # A base has an adapter and its average.
        "bytes_optimizer": -(-costs.trainable * SINGLE * (STATE_COPIES if trains else 2) // shards),
        "bytes_trajectories": -(-passes.epoch // gpus) * tensors * costs.latent * SINGLE,
        "bytes_activations": settings.optim.micro_batch * halves * costs.kept if trains else 0,
    }


def disk(settings: Config, row: Row, trainable: int, passes: Passes) -> dict[str, int]:
    """Bytes that a run leaves in its folder, by part.

    Args:
        trainable: how many parameters are trained.
    """
    adapter, resolution = trainable * SINGLE, settings.backbones[row.backbone].resolution
    return {
        "disk_checkpoints": adapter * (SAVED_COPIES * (KEEP + 1) + 1) if passes.epoch else 0,
        "disk_images": passes.evaluated * image_bytes(resolution),
        "disk_scores": round(passes.scored * SCORE_BYTES),
        "disk_record": planned_updates(settings, row) * RECORD_BYTES,
    }


def image_bytes(resolution: int) -> int:
    """What an image of so many pixels a side takes on the disk."""
    return blocks(resolution**2 * PNG_BYTES)
