"""What a run asks of the machine: refused in one line where memory is short, TF32 only where it is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from bench_runs import settings

from bench import machine, running, train
from bench.architectures import ArchitectureError
from bench.config import Config
from bench.costs import Plan, plan
from bench.policy import PolicyError
from bench.suite import configure

CPU, GPU = torch.device("cpu"), torch.device("cuda:0")


def small(scale: str) -> Config:
    """The tiny pipeline under the name of a scale."""
    made = configure("sd3_flow_text", [])
    made.scale = scale
    return made


def wanted(made: Config, gpus: int = 1) -> int:
    return int(plan(made, gpus=gpus).total("bytes_"))


@pytest.mark.parametrize("short", [0, 1])
@pytest.mark.parametrize(("device", "scale", "ranks"), [(GPU, "tiny", 1), (GPU, "tiny", 4), (CPU, "paper", 2)])
def test_a_run_is_refused_from_the_first_byte_that_is_not_free(
    device: torch.device, scale: str, ranks: int, short: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = small(scale)
    # Processes that have only a CPU share its memory; each GPU holds its own share.
    needed = wanted(made, ranks) * (ranks if device.type == "cpu" else 1)
    monkeypatch.setattr(machine, "free", lambda asked: needed - short)
    if not short:
        return machine.check_memory(made, device, ranks)
    with pytest.raises(PolicyError, match=r"sd3_flow_text plans to hold .* GB on .* are free; lower optim") as error:
        machine.check_memory(made, device, ranks)
    assert "\n" not in str(error.value)


def test_the_refusal_has_both_figures_and_the_largest_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = dict.fromkeys(Plan.__dataclass_fields__, 0) | {"row": "sd3_flow_text"}
    sizes = {"bytes_weights": 5_000_000_000, "bytes_activations": 46_400_000_000, "bytes_optimizer": 500_000_000}
    planned = Plan(**(numbers | sizes | {"bytes_trajectories": 1_100_000_000}))  # type: ignore[arg-type]
    monkeypatch.setattr(machine, "plan", lambda *_, **__: planned)
    monkeypatch.setattr(machine, "free", lambda device: 24_000_000_000)
    shown = r"hold 53\.0 GB on cuda:0 \(a process: activations 46\.4, weights 5\.0, trajectories 1\.1\) and 24\.0 GB"
    with pytest.raises(PolicyError, match=shown):
        machine.check_memory(small("paper"), GPU, 1)


def test_the_little_world_is_not_checked_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "free", lambda device: 0)
    machine.check_memory(small("tiny"), CPU, 1)


def test_a_pipeline_whose_architecture_is_unknown_is_left_to_try(monkeypatch: pytest.MonkeyPatch) -> None:
    made = small("paper")
    made.backbones["sd3"].weights = "somebody/sd3-of-their-own"
    with pytest.raises(ArchitectureError):
        plan(made)
    monkeypatch.setattr(machine, "free", lambda device: 0)
    machine.check_memory(made, GPU, 1)


def test_a_run_is_refused_before_it_loads_anything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = settings("sd3_flow_text", tmp_path)
    made.scale = "paper"
    monkeypatch.setattr(machine, "free", lambda device: 0)
    monkeypatch.setattr(running, "prepare", lambda *_: pytest.fail("something was loaded"))
    with pytest.raises(PolicyError, match=r"and 0\.0 GB are free"):
        train.run(made)


def test_memory_that_is_free_is_less_than_the_machine_has() -> None:
    assert 0 < machine.free(CPU) < 2**50


@pytest.mark.parametrize("tf32", [True, False])
def test_a_run_sets_both_switches_as_its_settings_say(
    tf32: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.set_precision(not tf32)
    monkeypatch.setattr(running, "prepare", lambda *_: (_ for _ in ()).throw(PolicyError("enough")))
    with pytest.raises(PolicyError, match="enough"):
        train.run(settings("sd3_base", tmp_path, f"tf32={tf32}"))
    assert torch.backends.cuda.matmul.allow_tf32 == torch.backends.cudnn.allow_tf32 == tf32
    machine.set_precision(False)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device: TF32 rounds on nothing else")
def test_tf32_rounds_products_and_its_absence_does_not() -> None:
    factors = torch.randn(2, 512, 512, generator=torch.Generator().manual_seed(0))
    exact = (factors[0].double() @ factors[1].double()).float()
    errors = []
    for tf32 in (False, True):
        machine.set_precision(tf32)
        found = (factors[0].cuda() @ factors[1].cuda()).cpu()
        errors.append(((found - exact).norm() / exact.norm()).item())
    machine.set_precision(False)
    assert errors[0] < 1e-6 < 1e-5 < errors[1]
