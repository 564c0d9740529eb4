"""Benchmark results as JSON (`benchmarks/results/latest.json`) and as a page (`docs/benchmarks.md`)."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.contestant import ROOT
from benchmarks.turns import CLOCK_VARIABLE, threads

RESULTS = ROOT / "benchmarks" / "results" / "latest.json"
PAGE = ROOT / "docs" / "benchmarks.md"
_MARK = "<!-- figures: written by make bench -->"
_TITLES = {
    "propose": "Proposing: 16 prompts × 2 answers × 50 tokens",
    "reward": "Reward model: seconds per optimizer step of 16 pairs (50 tokens per sequence)",
    "pair": "One pair's latency: 1 prompt of 30 tokens × 2 answers × 50 tokens",
    "propose_llama": "SmolLM2-135M, proposing: 16 prompts × 2 answers × 50 tokens",
    "pair_llama": "SmolLM2-135M, one pair's latency",
    "ppo_llama": "SmolLM2-135M, PPO: one iteration of 16 × (30 + 50 tokens), 4 epochs",
    "ppo": "PPO: one iteration of 16 × (30 + 50 tokens), 4 epochs",
}
_NAMES = {
    "propose": "**ours**",
    "reward": "**ours**, the trunk's single pass shared by 6 epochs",
    "ppo": "**ours**",
    **dict.fromkeys(("pair", "propose_llama", "pair_llama", "ppo_llama"), "**ours**"),
    "openvino": "OpenVINO GenAI, continuous batching",
    "openvino_int8": "OpenVINO GenAI, continuous batching, int8 weights",
    "generate_fp32_llama": "transformers generate, batched, float32",
    "generate_bf16_llama": "transformers generate, batched, bfloat16",
    "ppo_trl_llama": "TRL PPOTrainer, float32",
    "pipeline": "transformers pipeline, prompt by prompt",
    "generate_fp32": "transformers generate, batched, float32",
    "generate_bf16": "transformers generate, batched, bfloat16",
    "ctranslate2_int8": "CTranslate2, int8",
    "tutorial": "HF Trainer, padded to 550 (measured on 4 pairs, times 4)",
    "reward_trl": "TRL RewardTrainer, float32",
    "reward_trl_bf16": "TRL RewardTrainer, bfloat16",
    "hf_dynamic": "HF Trainer, dynamic padding, top 3 layers trained",
    "ppo_trl": "TRL PPOTrainer, float32",
    "ppo_trl_bf16": "TRL PPOTrainer, bfloat16",
}


def circumstances() -> dict[str, Any]:
    """The time, commit, machine and versions of a measurement."""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"],  # noqa: S607
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    return {
        "at": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "commit": commit,
        "machine": _machine(),
        "threads": threads(),
        "clock": "processor" if os.environ.get(CLOCK_VARIABLE) == "cpu" else "wall",
        "load_before": os.getloadavg()[2],
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "transformers")},
            **_peer_versions(),
        },
    }


def merge(found: dict[str, Any]) -> None:
    """Replace results of the same name with new ones; the others stay."""
    kept: dict[str, Any] = json.loads(RESULTS.read_bytes()) if RESULTS.exists() else {}
    details = {**kept.get("details", {}), **found.get("details", {})}
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps({**kept, **found, "details": details}, indent=2) + "\n", encoding="utf-8")


def write_page() -> None:
    """Write the figures below the page's mark; the text above it is written by people."""
    results = json.loads(RESULTS.read_bytes())
    above = PAGE.read_text(encoding="utf-8").partition(_MARK)[0] if PAGE.exists() else "# Benchmarks\n\n"
    parts = [_table(what, results) for what in _TITLES if what in results["details"]]
    parts += [f"{part['text']}\n" for part in results["details"].values() if "text" in part]
    PAGE.write_text(f"{above}{_MARK}\n\n" + "\n".join(parts), encoding="utf-8")


def _table(what: str, results: dict[str, Any]) -> str:
    part = results["details"][what]
    ours = median(part["seconds"][what])
    lines = [f"## {_TITLES[what]}", "", "| | median s | range | ours is faster by | peak MB |", "|---|---|---|---|---|"]
    for name, seconds in sorted(part["seconds"].items(), key=lambda item: median(item[1])):
        ratio = "" if name == what else f"{median(seconds) / ours:.1f}×"
        spread = f"{min(seconds):.2f}–{max(seconds):.2f}"
        lines.append(f"| {_NAMES[name]} | {median(seconds):.2f} | {spread} | {ratio} | {part['peak_mb'][name]:.0f} |")
    lines.append("")
    if part["floor_s"] is not None:
        lines += [_floor_in_words(what, part, results), ""]
    lines += [
        f"{part['at']}, commit {part['commit']}; {part['machine']}, {part['threads']} threads, "
        f"{part['clock']} clock, load average {part['load_before']:.1f}; "
        + ", ".join(f"{name} {number}" for name, number in part["versions"].items())
        + ".",
        "",
    ]
    return "\n".join(lines)


def _floor_in_words(what: str, part: dict[str, Any], results: dict[str, Any]) -> str:
    limits = part["limits"]
    return (
        f"The floor is {part['floor_s']:.2f} s, so ours takes {results[f'{what}_over_floor']:.2f} times as long as "
        f"its arithmetic at the speed of large matrix products measured in the same rounds "
        f"({limits['gflops_fp32']:.0f} GFLOP/s in float32, "
        f"{limits['gflops_bf16']:.0f} in bfloat16; memory is read at {limits['read_gb_s']:.0f} GB/s)."
    )


def _machine() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
    family = next((line.partition(":")[2].strip() for line in lines if line.startswith("cpu family")), "?")
    flags = next((line for line in lines if line.startswith("flags")), "").split()
    has = [flag for flag in ("avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16") if flag in flags]
    return f"{os.cpu_count()} × {name} (family {family}; {', '.join(has) or 'no AVX-512'})"


def _peer_versions() -> dict[str, str]:
    found = {}
    for label, place, package in (
        ("trl (PPO)", ".venv-bench", "trl"),
        ("trl (reward)", ".venv-bench-trl", "trl"),
        ("ctranslate2", ".venv-bench", "ctranslate2"),
        ("openvino-genai", ".venv-bench-openvino", "openvino_genai"),
    ):
        folders = list((ROOT / place).glob(f"lib/python*/site-packages/{package}-*.dist-info"))
        if folders:
            found[label] = folders[0].name.removesuffix(".dist-info").partition("-")[2]
    return found
