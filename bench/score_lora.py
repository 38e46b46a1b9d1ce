"""`python -m bench.score_lora REPO_OR_FOLDER --backbone sd35_medium`: judges an adapter that was trained elsewhere.

The prompts, the noise, the sampler and the judges are those of the rows, and what it leaves is a run folder, so that
tables show it beside them as judged, not trained here (`bench.judged`).
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Collection, Sequence
from pathlib import Path

from bench import refusals, suite
from bench.config import Config, ConfigError
from bench.experiments import JUDGED, PROXIES, ROWS, Row
from bench.ledger.runs import NAME

BACKBONES = {  # name: scale, backbone
    "sd35_medium": ("paper", "sd3"),
    "flux": ("paper", "flux"),
    "tiny_sd3": ("tiny", "sd3"),
    "tiny_flux": ("tiny", "flux"),
}
# Parts of a path that many adapters share: they say nothing, or only which of one training's adapters it is.
SAYS_NOTHING = re.compile(r"/|\.|lora|adapters?|weights|transformer|runs|outputs?|checkpoints?", re.IGNORECASE)
SAYS_WHICH = re.compile(r"(seed|step|update|epoch|checkpoint|ckpt)?[-_]?\d+", re.IGNORECASE)


def row_for(source: str, name: str, backbone: str, proxy: str) -> Row:
    """The row of an adapter; without a name, it is called as `name_of` says.

    Raises:
        ConfigError: the name is a row's of the paper, or no name of a folder.
    """
    name = name or name_of(source)
    if not re.fullmatch(NAME, name) or name in ROWS:
        raise ConfigError(f"a row of one's own cannot be called {name!r}; give it another --name")
    return Row(name, backbone, JUDGED, name, task=proxy)


def name_of(source: str) -> str:
    """What tells an adapter from others: ROW_seedN of our ROW/seedN/lora, a repository's name, with a step's below it.

    Empty where nothing in the path does.
    """
    parts = Path(source).resolve().parts if Path(source).exists() else source.replace(":", "/").split("/")
    words: list[str] = []
    for part in reversed(parts):
        if SAYS_NOTHING.fullmatch(part):
            continue
        words.insert(0, part)
        if not SAYS_WHICH.fullmatch(part):
            return "_".join(words)
    return ""


def checked(option: str, value: str, known: Collection[str]) -> str:
    """The value of an option, if it is one of `known` or was not given.

    Raises:
        ConfigError: it is not.
    """
    if value and value not in known:
        raise ConfigError(refusals.unknown(option, value, known))
    return value


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.score_lora", description=__doc__.splitlines()[0])
    parser.add_argument(
        "source",
        metavar="REPO_OR_FOLDER",
        help="with one *.safetensors, of peft or of diffusers; REPO:SUBFOLDER for one of a repository's",
    )
    parser.add_argument("overrides", nargs="*", help="as for bench.train: seed=1 runs=FOLDER ...")
    parser.add_argument("--backbone", required=True, metavar="NAME", help=f"one of {', '.join(BACKBONES)}")
    parser.add_argument("--name", default="", help="of the row (default: made of REPO_OR_FOLDER)")
    parser.add_argument("--proxy", default="", metavar="NAME", help=f"what it was trained on: {', '.join(PROXIES)}")
    return parser.parse_intermixed_args(arguments)


def asked(args: argparse.Namespace) -> tuple[Row, Config]:
    """The row, and the settings of its backbone's base model.

    Raises:
        ConfigError: an option or an override names what is not.
    """
    scale, backbone = BACKBONES[checked("--backbone", args.backbone, BACKBONES)]
    row = row_for(args.source, args.name, backbone, checked("--proxy", args.proxy, PROXIES))
    return row, suite.configure(f"{backbone}_base", [f"scale={scale}", *args.overrides])


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: 0 judged, 2 refused, else `running.code_of` the error, with one line."""
    args = parse(arguments)
    try:
        row, settings = asked(args)
    except ConfigError as error:
        print(f"bench.score_lora: {error}", file=sys.stderr)
        return 2
    import torch

    from bench import judged, running

    torch.set_num_threads(1)
    try:
        judged.score(args.source, row, settings)
    except running.KNOWN_ERRORS as error:
        print(f"bench.score_lora: {' '.join(str(error).split())}", file=sys.stderr)
        return running.code_of(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
