"""`python -m bench.tiny.build`: makes the little world's weights from nothing, deterministically, on two cores.

Stages: autoencoder, then the SD3 and the Flux generator side by side, then the preference model and the renderer's
statistics. Each stage resumes where it was interrupted; `--fresh` starts over. What is left out: no distillation of
guidance (Flux's guidance input is there, and meaningless), no aesthetic tuning.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from bench.flux import FluxPolicy
from bench.policy import Policy
from bench.sd3 import SD3Policy
from bench.tiny import fit, pipelines

WEIGHTS = Path(__file__).parent / "weights"
SEED = 20260
TEXT_TOKENS = pipelines.CLIP_LENGTH
PICTURES = 40_000
AUTOENCODER_STEPS, AUTOENCODER_BATCH = 1600, 48
GENERATOR_STEPS, GENERATOR_BATCH = 6000, 96
BUILDERS = {"sd3": (pipelines.build_sd3, SD3Policy), "flux": (pipelines.build_flux, FluxPolicy)}


def build_autoencoder(work: Path) -> None:
    """Fits the autoencoder that both pipelines share and saves it in `work/vae`."""
    if (work / "vae").exists():
        return
    torch.manual_seed(SEED)
    vae, pictures = pipelines.autoencoder(), fit.paint(PICTURES, SEED)
    fit.fit_autoencoder(vae, pictures, AUTOENCODER_STEPS, AUTOENCODER_BATCH, work, SEED)
    save_file({"latents": fit.encode(vae, pictures.images)}, work / "latents.safetensors")
    vae.save_pretrained(work / "vae.partial")
    (work / "vae.partial").rename(work / "vae")


def build_generator(name: str, work: Path) -> None:
    """Fits the generator `sd3` or `flux` and saves the whole pipeline in `work/NAME`."""
    if (work / name).exists():
        return
    vae = pipelines.AutoencoderKL.from_pretrained(work / "vae")
    build, policy_type = BUILDERS[name]
    policy: Policy = policy_type(build(vae, SEED), pipelines.SIDE, TEXT_TOKENS, guidance=1.0)
    latents, prompts = load_file(work / "latents.safetensors")["latents"], fit.paint(PICTURES, SEED).prompts
    fit.fit_generator(policy, latents, prompts, GENERATOR_STEPS, GENERATOR_BATCH, work, SEED)
    policy.pipe.save_pretrained(work / f"{name}.partial")
    (work / f"{name}.partial").rename(work / name)


def _stage(*names: str, work: Path) -> None:
    """Runs stages in processes of their own, side by side, one thread each."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "bench.tiny.build", "--work", str(work), "--stage"]
    running = [subprocess.Popen([*command, name], env=environment) for name in names]
    if any([process.wait() for process in running]):
        raise SystemExit(f"stage {' or '.join(names)} failed; what it had done is kept in {work}")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.tiny.build", description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("runs/build"), help="where unfinished stages are kept")
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="where the weights go")
    parser.add_argument("--fresh", action="store_true", help="forget unfinished stages")
    parser.add_argument("--stage", choices=["autoencoder", *BUILDERS], help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.fresh:
        shutil.rmtree(args.work, ignore_errors=True)
    args.work.mkdir(parents=True, exist_ok=True)
    if args.stage == "autoencoder":
        build_autoencoder(args.work)
    elif args.stage:
        build_generator(args.stage, args.work)
    else:
        _stage("autoencoder", work=args.work)
        _stage(*BUILDERS, work=args.work)


if __name__ == "__main__":
    main()
