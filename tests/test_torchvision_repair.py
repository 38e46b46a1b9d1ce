"""The repair of the real torchvision runs in a process of its own: what is imported cannot be unimported."""

from __future__ import annotations

import importlib
import importlib.util
import subprocess
import sys
import types

import pytest

from gold_metrics import torchvision_repair

AFTER_A_FAILURE = """
expected = "ok"
try:
    import torchvision
except RuntimeError:
    expected = "patched"
from gold_metrics.torchvision_repair import repair
first, second = repair(), repair()
import torchvision.transforms
from PIL import Image
print(expected, first, second, *torchvision.transforms.Resize(4)(Image.new("RGB", (8, 8))).size)
"""


@pytest.mark.skipif(importlib.util.find_spec("torchvision") is None, reason="torchvision is not installed")
def test_torchvision_imports_after_the_repair_even_if_it_failed_before() -> None:
    command = [sys.executable, "-c", AFTER_A_FAILURE]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    expected, first, second, *size = done.stdout.split()
    assert first == second == expected
    assert size == ["4", "4"]


def _stand_in(monkeypatch: pytest.MonkeyPatch, error: Exception | None) -> None:
    def imported(name: str) -> types.ModuleType:
        if error is not None:
            raise error
        return types.ModuleType(name)

    monkeypatch.setattr(importlib, "import_module", imported)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(torchvision_repair, "_declared", [])
    monkeypatch.setattr(torchvision_repair, "_declare", lambda: pytest.fail("declared the operators"))


def test_nothing_is_declared_beside_a_torchvision_that_works(monkeypatch: pytest.MonkeyPatch) -> None:
    _stand_in(monkeypatch, None)
    assert torchvision_repair.repair() == "ok"


def test_another_failure_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    _stand_in(monkeypatch, RuntimeError("CUDA has different major versions"))
    with pytest.raises(RuntimeError, match="different major"):
        torchvision_repair.repair()


def test_a_missing_torchvision_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert torchvision_repair.repair() == "absent"
