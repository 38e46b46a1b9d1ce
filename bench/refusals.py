"""Bad input answered in one line: what was found, what is near it, what to do. Imports no torch.

Hydra's own messages run over several lines, and advise to append an unknown key, which no code would read.
"""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Collection
from typing import NoReturn

from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, ListConfig
from omegaconf.errors import OmegaConfBaseException

REFUSED = (HydraException, OmegaConfBaseException)
ALL = "`python -m bench.train --cfg job` shows all"
NEAR = 3  # our choice: as many near names as one reads at a glance


def unknown(what: str, found: str, known: Collection[str]) -> str:
    """That there is no `what` of the name `found`: the near names of `known`, or all of them."""
    if near := difflib.get_close_matches(found, known, NEAR):
        return f"there is no {what} {found!r}; did you mean {_either(near)}?"
    return f"there is no {what} {found!r}; wanted one of {', '.join(known)}"


def no_setting(found: str) -> str:
    """The same of a setting, by its path: those of the same last part, then those that are spelt alike."""
    listed = paths(_defaults())
    same = [path for path in listed if path.rpartition(".")[2] == found]
    near = (same + difflib.get_close_matches(found, listed, NEAR))[:NEAR]
    advice = f"did you mean {_either(near)}? {ALL}" if near else ALL
    return f"there is no setting {found}; {advice}"


def _either(names: list[str]) -> str:
    return " or ".join([*filter(None, [", ".join(names[:-1])]), names[-1]])


def paths(group: DictConfig | ListConfig, prefix: str = "") -> list[str]:
    """The settings that a value may be given to, as `group.key`."""
    if not isinstance(group, DictConfig):
        return []
    found = []
    for key in map(str, group):
        path, child = f"{prefix}{key}", group._get_node(key)
        found += paths(child, f"{path}.") if isinstance(child, DictConfig) and len(child) else [path]
    return found


def _defaults() -> DictConfig:
    if GlobalHydra.instance().is_initialized():  # among its settings was what is now refused
        return compose("train")
    with initialize_config_module("bench.conf", version_base="1.3"):
        return compose("train")


def explained(error: BaseException) -> str:
    """What went wrong, in one line; what Hydra says of a name or a value, in our words."""
    if isinstance(error, OverrideParseException):
        return f"{error.override!r} is no setting: wanted KEY=VALUE, a value of more than words and numbers in quotes"
    said = " ".join(f"{error} {error.__cause__ or ''}".split()) if isinstance(error, REFUSED) else str(error)
    if found := re.search(r"Could not override '([^']*)'", said):
        return no_setting(found[1])
    if found := re.search(r"Could not find '(\w+)/([^']*)' Available options in '\w+': (.*?) Config search path", said):
        return unknown(found[1], found[2], found[3].split())
    if found := re.search(r"Error merging override (\S+) (.*?) full_key:", said):
        return f"{found[1]} does not fit: {found[2]}"
    return " ".join(said.split())


def leave(command: str, message: object, code: int) -> NoReturn:
    """Ends the process with one line."""
    print(f"{command}: {' '.join(str(message).split())}", file=sys.stderr)
    sys.exit(code)
