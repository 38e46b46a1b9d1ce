"""Python and the packages, read from their metadata: nothing is imported, so that a broken one is told too."""

from __future__ import annotations

import platform
import tomllib
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from bench.doctor.finding import Finding, failed, ok

DISTRIBUTION = "grpo-guard-bench"
PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"
SHOWN = ("torch", "diffusers", "transformers")


def asked() -> tuple[str, list[Requirement]]:
    """Which Python and packages the checkout asks for, or the installed package where there is no checkout."""
    if PYPROJECT.exists():
        project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
        return project["requires-python"], [Requirement(each) for each in project["dependencies"]]
    listed = [Requirement(each) for each in requires(DISTRIBUTION) or ()]
    return metadata(DISTRIBUTION)["Requires-Python"], [each for each in listed if not each.marker]


def python() -> Finding:
    found, wanted = platform.python_version(), asked()[0]
    if not SpecifierSet(wanted).contains(found, prereleases=True):
        return failed(
            f"Python {found}, wanted {wanted}", "make the environment with another: PYTHON=python3.11 make setup"
        )
    return ok(f"Python {found}")


def packages() -> Finding:
    _, wanted = asked()
    wrong = [told for each in wanted if (told := _lack(each))]
    if wrong:
        return failed("; ".join(wrong), "pip install -r requirements.lock")
    return ok(f"{len(wanted)} as asked for, " + ", ".join(f"{name} {version(name)}" for name in SHOWN))


def _lack(wanted: Requirement) -> str:
    try:
        found = version(wanted.name)
    except PackageNotFoundError:
        return f"{wanted.name} is missing"
    return (
        ""
        if wanted.specifier.contains(found, prereleases=True)
        else f"{wanted.name} {found}, wanted {wanted.specifier}"
    )
