"""`bench.doctor`: a healthy machine passes, and what Python, packages, GPUs and memory lack is found."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
import torch
from bench_runs import settings
from doctor_findings import TOKEN, told

from bench import machine
from bench.doctor import __main__ as doctor
from bench.doctor import hardware, software
from bench.doctor.finding import Finding, examine

# --- the command


def test_a_healthy_machine_is_ready_and_each_answer_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        doctor.main(["row=sd3_guard_text", "tracking=null"])
    lines = capsys.readouterr().out.splitlines()
    assert left.value.code == 0 and lines[-1] == "ready"
    assert {line[:7].strip() for line in lines[:-1]} == {"ok"}, lines
    names = [line[9:29].strip() for line in lines[:-1]]
    wanted = ["Python", "packages", "imports", "GPU", "gloo", "memory", "runs", "disk", "weights sd3", "prompts"]
    assert names == [*wanted, "prompts", "judges", "tracking", "Slurm"]


def test_one_that_is_not_says_what_is_missing_and_no_token(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    asked = ["row=sd3_base", "backbones.sd3.weights=nobody/nothing", "evaluation.prompts=nowhere.jsonl"]
    with pytest.raises(SystemExit) as left:
        doctor.main([*asked, f"runs={tmp_path}/runs"])
    said = capsys.readouterr().out
    assert left.value.code == 1 and said.splitlines()[-1].endswith(" FAILED")
    assert "FAILED   weights sd3          nobody/nothing is not on this machine: `hf download nobody/nothing`" in said
    assert "(HF_TOKEN is set)" in said and TOKEN not in said
    assert "prompt file nowhere.jsonl cannot be read" in said and "Traceback" not in said


def test_overrides_that_name_what_is_not_end_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in ("row=sd3_flow_txt", "no.such=1"):
        with pytest.raises(SystemExit) as left:
            doctor.main([wrong])
        assert left.value.code == 2
        assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_check_that_raises_is_a_line_like_others() -> None:
    def check() -> Finding:
        raise RuntimeError("the library said\ntwo lines")

    told(examine(check), "FAILED", "the library said two lines")


# --- Python and packages


def test_another_python_and_other_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    told(software.packages(), "ok", f"torch {torch.__version__}")
    monkeypatch.setattr(software.platform, "python_version", lambda: "3.10.2")
    told(software.python(), "FAILED", "Python 3.10.2, wanted >=3.11")
    real = software.version

    def version(name: str) -> str:
        if name == "peft":
            raise PackageNotFoundError(name)
        return "2.9.1+cu128" if name == "torch" else real(name)

    monkeypatch.setattr(software, "version", version)
    told(software.packages(), "FAILED", "torch 2.9.1+cu128, wanted <2.14,>=2.13; peft is missing", "requirements.lock")


def test_requirements_are_known_without_a_checkout(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    here = {each.name for each in software.asked()[1]}
    monkeypatch.setattr(software, "PYPROJECT", tmp_path / "pyproject.toml")
    python, found = software.asked()
    assert python == ">=3.11" and {each.name for each in found} <= here and "torch" in {each.name for each in found}


# --- GPUs and memory


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(hardware, "_driver", lambda: "")


@pytest.mark.usefixtures("no_gpu")
def test_gpus_that_are_missing_or_that_torch_cannot_use_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", None)
    told(hardware.gpus(0), "ok", "none, none needed")
    told(hardware.gpus(1), "FAILED", "no GPU")
    monkeypatch.setattr(hardware, "_driver", lambda: "570.86")
    told(hardware.gpus(1), "FAILED", "driver 570.86", "without CUDA", "install torch's build for CUDA")
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.setattr(torch.cuda, "init", lambda: (_ for _ in ()).throw(RuntimeError("driver too old (found 11)")))
    told(hardware.gpus(1), "FAILED", "torch sees no GPU: driver too old (found 11)")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "NVIDIA H200")
    told(hardware.gpus(8), "FAILED", "4 GPUs, wanted 8")
    told(hardware.gpus(4), "ok", "4 x NVIDIA H200, driver 570.86")


def test_processes_can_sum_over_gloo_and_a_library_that_is_missing_is_named() -> None:
    told(hardware.group("gloo", "cpu"), "ok")
    if not torch.distributed.is_nccl_available():
        told(hardware.group("nccl", "cuda"), "FAILED", "NCCL", "install torch's build for CUDA")
    assert not torch.distributed.is_initialized()


@pytest.mark.usefixtures("no_gpu")
def test_memory_is_compared_with_the_plan_of_the_largest_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [settings(row, tmp_path) for row in ("sd3_base", "sd3_guard_text")]
    told(hardware.memory(rows, 0), "ok", "sd3_guard_text plans to hold")
    monkeypatch.setattr(machine, "free", lambda device: 5_000_000)
    told(hardware.memory(rows, 0), "FAILED", "5.0 MB are free", "lower optim.micro_batch")
    told(hardware.memory(rows, 1), "FAILED", "on a GPU, and there is none")
    told(hardware.host_memory(rows, 8), "warning", "8 processes read up to")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(machine, "free", lambda device: 10**9 if device.index == 0 else 5_000_000)
    told(hardware.memory(rows, 1), "ok", "1.0 GB are free on the GPU with least")
    told(hardware.memory(rows, 2), "FAILED", "5.0 MB are free on the GPU with least")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device: NCCL sums on nothing else")
def test_a_gpu_sums_over_nccl() -> None:
    told(hardware.group("nccl", "cuda"), "ok")
    told(hardware.gpus(1), "ok", "driver")
