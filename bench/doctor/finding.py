"""What a check finds: well, to be known, or in the way of a run; and what to do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """One line of the doctor.

    Attributes:
        text: what was found.
        do: what to do about it; empty where nothing needs doing.
    """

    state: Literal["ok", "warning", "FAILED"]
    text: str
    do: str = ""

    def __str__(self) -> str:
        return " ".join(f"{self.text}: {self.do}".split()) if self.do else " ".join(self.text.split())


Check = Callable[[], Finding]


def ok(text: str) -> Finding:
    return Finding("ok", text)


def warning(text: str, do: str) -> Finding:
    return Finding("warning", text, do)


def failed(text: str, do: str) -> Finding:
    return Finding("FAILED", text, do)


def examine(check: Check) -> Finding:
    """What the check finds; one that raises has FAILED with what it said."""
    try:
        return check()
    except Exception as error:
        return failed(str(error).strip() or type(error).__name__, "")
