"""`python -m bench.tiny.build`: makes the little world's weights from nothing, deterministically, on two cores.

Stages: the autoencoder; the SD3 and the Flux generator side by side; what the oracles know of the renderer, and the
prompt files; the preference model; how good all of it is. Then weights and card are put in place. Each stage resumes
where it was interrupted, a finished one is skipped; `--fresh` starts over. What is left out: no distillation of
guidance (Flux's guidance input is there, and meaningless), no aesthetic tuning.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from bench.flux import FluxPolicy
from bench.policy import Policy, load
from bench.sd3 import SD3Policy
from bench.tiny import card, fit, pipelines, preference, prompt_files, reading, statistics
from gold_metrics.tiny_world import DATA

WEIGHTS = Path(__file__).parent / "weights"
SEED = 20260
THREADS = 2  # shared by the stages that run side by side; another number moves last bits
TEXT_TOKENS = pipelines.CLIP_LENGTH
PICTURES = 40_000
AUTOENCODER_STEPS, AUTOENCODER_BATCH = 1200, 48
GENERATOR_STEPS, GENERATOR_BATCH = {"sd3": 6500, "flux": 12_000}, 32  # the flow of Flux learns more slowly
SHARES = {"sd3": fit.FEWER_TEXTS, "flux": fit.CATEGORY_WEIGHT}
BUILDERS = {"sd3": (pipelines.build_sd3, SD3Policy), "flux": (pipelines.build_flux, FluxPolicy)}
# Our choice: training prompts whose samples the preference model sees, and samples of each generator for each of them.
SAMPLED_PROMPTS, SAMPLES = 300, 4
GUIDANCE = {"sd3": 1.0, "flux": 3.5}  # as the tiny scale samples: bench/conf/scale/tiny.yaml
PREFERENCE, READING = "preference.safetensors", "{}.reading.json"
MACHINE = "Made on {} cores, the generators side by side on one thread each, with torch {} and diffusers {}."
CARD = "CARD.md"


def build_autoencoder(work: Path) -> None:
    """Fits the autoencoder that both pipelines share and saves it in `work/vae`."""
    torch.manual_seed(SEED)
    vae, pictures = pipelines.autoencoder(), fit.paint(PICTURES, SEED, fit.CATEGORY_WEIGHT)
    fit.fit_autoencoder(vae, pictures, AUTOENCODER_STEPS, AUTOENCODER_BATCH, work, SEED)
    vae.save_pretrained(work / "vae.partial")
    (work / "vae.partial").rename(work / "vae")


def build_generator(name: str, work: Path) -> None:
    """Fits the generator `sd3` or `flux` and saves the whole pipeline in `work/NAME`."""
    vae = pipelines.AutoencoderKL.from_pretrained(work / "vae")
    build, policy_type = BUILDERS[name]
    policy: Policy = policy_type(build(vae, SEED), pipelines.SIDE, TEXT_TOKENS, guidance=1.0)
    _write(work / READING.format(name), reading.teach(policy, work, SEED))
    pictures = fit.paint(PICTURES, SEED, SHARES[name])
    latents = fit.encode(vae, pictures.images)
    fit.fit_generator(policy, latents, pictures.prompts, GENERATOR_STEPS[name], GENERATOR_BATCH, work, SEED)
    policy.pipe.save_pretrained(work / f"{name}.partial")
    (work / f"{name}.partial").rename(work / name)


def measure_renderer(work: Path) -> None:
    """Writes what the oracles know of the renderer, to `work` and to where they read it."""
    statistics.write(work / DATA)
    install(work / DATA, statistics.SHIPPED)


def write_prompts(work: Path) -> None:
    """Writes the prompt files where the runner reads them, and their names to `work`."""
    prompt_files.main()
    _write(work / "prompts.json", sorted(prompt_files.files()))


def train_preference(work: Path) -> None:
    """Trains the `pickscore` proxy on the oracles' verdicts; writes its weights and what was measured to `work`."""
    samples = candidates(generators(work), SAMPLED_PROMPTS, SEED)
    report = preference.train(work / PREFERENCE, preference.by_oracles, seed=SEED, samples=samples)
    extra = {
        "margin": preference.MARGIN,
        "held_out_groups": preference.HELD_OUT_GROUPS,
        "sampled_pictures": sum(len(group.pictures) for group in samples),
    }
    _write(work / "preference.json", report | extra)


def generators(work: Path) -> dict[str, Policy]:
    """The finished pipelines by name."""
    return {name: load(str(work / name), pipelines.SIDE, TEXT_TOKENS, GUIDANCE[name]) for name in BUILDERS}


def candidates(policies: dict[str, Policy], count: int, seed: int) -> list[preference.Candidates]:
    """SAMPLES pictures by each policy for each of `count` training prompts, drawn by category as for the fits."""
    pairs = dict(fit.draw_prompts(10 * count, np.random.default_rng(seed), fit.CATEGORY_WEIGHT))
    asked = [card.as_prompt(*pair) for pair in list(pairs.items())[:count]]
    pictures = np.concatenate([card.sampled(policy, asked, seed, SAMPLES) for policy in policies.values()])
    return [preference.Candidates(p.text, p.target or {}, pictures[i :: len(asked)]) for i, p in enumerate(asked)]


def measure(work: Path) -> None:
    """Measures renders, reconstructions and both generators; writes everything that the card says to `work`."""
    policies, asked = generators(work), card.prompts()
    painted = card.renders(asked, SEED + 1)
    shown: dict[str, Callable[[], card.Pictures]] = {
        "the renderer's own pictures": lambda: painted,
        "the same after the autoencoder": lambda: card.reconstructions(policies["sd3"].pipe.vae, painted),
    } | {name: functools.partial(card.sampled, policy, asked, SEED + 1) for name, policy in policies.items()}
    judges = card.scorers(work / PREFERENCE)
    quality = {name: card.measure(make(), asked, judges) for name, make in tqdm(shown.items(), "measuring")}
    files = ("preference.json", *map(READING.format, BUILDERS))
    preferred, *read = (json.loads((work / name).read_text()) for name in files)
    numbers = {
        "machine": MACHINE.format(os.cpu_count(), version("torch"), version("diffusers")),
        "pictures": PICTURES,
        "seed": SEED + 1,
        "quality": quality,
        "stages": made_of(work, policies, int(preferred["steps"])),
        "preference": preferred,
        "reading": dict(zip(BUILDERS, read, strict=True)),
    }
    _write(work / "numbers.json", numbers)


def made_of(work: Path, policies: dict[str, Policy], preference_steps: int) -> list[dict[str, Any]]:
    """Size, steps, batch, seed and seconds of each fit; a generator's size is its transformer's and text encoders'."""
    pipes = {name: policy.pipe for name, policy in policies.items()}
    vae = _parameters(pipes["sd3"].vae)
    modules = {name: [m for m in pipe.components.values() if isinstance(m, nn.Module)] for name, pipe in pipes.items()}
    fits: dict[str, tuple[int, int, int]] = {
        "autoencoder": (vae, AUTOENCODER_STEPS, AUTOENCODER_BATCH),
        **{name: (_parameters(*each) - vae, GENERATOR_STEPS[name], GENERATOR_BATCH) for name, each in modules.items()},
        "preference": (_parameters(preference.PreferenceModel()), preference_steps, preference.BATCH),
    }
    columns = ("parameters", "steps", "batch")
    return [
        {"stage": name, **dict(zip(columns, row, strict=True)), "seed": SEED, "seconds": seconds(work, name)}
        for name, row in fits.items()
    ]


def _parameters(*modules: nn.Module) -> int:
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


STAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "autoencoder": (build_autoencoder, "vae"),
    "sd3": (functools.partial(build_generator, "sd3"), "sd3"),
    "flux": (functools.partial(build_generator, "flux"), "flux"),
    "statistics": (measure_renderer, DATA),
    "prompts": (write_prompts, "prompts.json"),
    "preference": (train_preference, "preference.json"),
    "measures": (measure, "numbers.json"),
}
"""What a stage runs, and what stands in the work folder when it is done."""

# Side by side within a line: two cores. The oracles must know the renderer before they teach the preference model.
ORDER = (("autoencoder",), ("sd3", "flux"), ("statistics", "prompts"), ("preference",), ("measures",))


def run_stage(name: str, work: Path) -> None:
    """Runs a stage unless it is done, and adds the time that it took to what `seconds` tells."""
    run, result = STAGES[name]
    if (work / result).exists():
        return
    before, start = seconds(work, name) or 0.0, time.monotonic()
    try:
        run(work)
    finally:
        _write(work / f"{name}.seconds.json", before + time.monotonic() - start)


def seconds(work: Path, name: str) -> float | None:
    """How long a stage worked, over all its interruptions (a kill loses its last stretch); None if unknown."""
    path = work / f"{name}.seconds.json"
    return float(path.read_text()) if path.exists() else None


def _write(path: Path, content: object) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)


def install(source: Path, destination: Path) -> None:
    """Copies a file or a folder; what stands at `destination` gives way once the copy is whole."""
    partial = destination.with_name(f".{destination.name}.partial")
    if source.is_dir():
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(source, partial)
        shutil.rmtree(destination, ignore_errors=True)
    else:
        shutil.copyfile(source, partial)
    partial.replace(destination)


def assemble(work: Path, out: Path) -> None:
    """Puts the finished weights and their card in `out`."""
    out.mkdir(parents=True, exist_ok=True)
    for name in (*BUILDERS, PREFERENCE):
        install(work / name, out / name)
    weights = [path for path in out.rglob("*") if path.is_file() and path != out / CARD]
    numbers = json.loads((work / "numbers.json").read_text())
    text = card.markdown(numbers, sum(path.stat().st_size for path in weights) / 1e6)
    (out / CARD).write_text(text, encoding="utf-8")
    print(f"the weights and {out / CARD} are in place")


def _stage(*names: str, work: Path) -> None:
    """Runs stages in processes of their own, side by side, sharing THREADS."""
    environment = os.environ | {"OMP_NUM_THREADS": str(THREADS // len(names))}
    command = [sys.executable, "-m", "bench.tiny.build", "--work", str(work), "--stage"]
    running = [subprocess.Popen([*command, name], env=environment) for name in names]
    codes = [process.wait() for process in running]
    if any(codes):
        raise SystemExit(f"stage {' or '.join(names)} failed; what it had done is kept in {work}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.tiny.build", description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("runs/build"), help="where unfinished stages are kept")
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="where the weights go")
    parser.add_argument("--fresh", action="store_true", help="forget unfinished stages")
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    if args.fresh:
        shutil.rmtree(args.work, ignore_errors=True)
    args.work.mkdir(parents=True, exist_ok=True)
    if args.stage:
        run_stage(args.stage, args.work)
        return
    for names in ORDER:
        _stage(*names, work=args.work)
    assemble(args.work, args.out)


if __name__ == "__main__":
    main()
