"""Options of scorers from a command line or a configuration: `SCORER.OPTION=VALUE`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

# What a text becomes, by the name of the type that the scorer's class asks for.
KINDS: dict[str, Callable[[str], Any]] = {"int": int, "float": float, "Path": Path}


def parse(settings: Sequence[str], names: Sequence[str]) -> dict[str, dict[str, str]]:
    """Options by scorer, from `SCORER.OPTION=VALUE`.

    Raises:
        ValueError: a setting of another form, or of a scorer that is not among `names`.
    """
    found: dict[str, dict[str, str]] = {name: {} for name in names}
    for setting in settings:
        where, equals, value = setting.partition("=")
        scorer, dot, option = where.partition(".")
        if not (equals and dot and scorer in found):
            wanted = f"SCORER.OPTION=VALUE with SCORER one of {', '.join(names)}"
            raise ValueError(f"--set wants {wanted}, found {setting!r}")
        found[scorer][option] = value
    return found


def fitted(name: str, kind: Callable[..., Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """The options as the class `kind` of the scorer `name` takes them: texts become numbers and paths.

    Raises:
        ValueError: an option that it has not, or a text that is no such number.
    """
    known = inspect.signature(kind).parameters
    for option in options:
        if option not in known:
            raise ValueError(f"{name} has no option {option!r}; it has {', '.join(known) or 'none'}")
    return {option: _fitted(name, option, value, str(known[option].annotation)) for option, value in options.items()}


def _fitted(name: str, option: str, value: Any, annotation: str) -> Any:
    kind = annotation.split(" ")[0]
    if not isinstance(value, str) or kind not in KINDS:
        return value
    try:
        return KINDS[kind](value)
    except ValueError:
        raise ValueError(f"{name}: {option} should be of type {kind}, found {value!r}") from None
