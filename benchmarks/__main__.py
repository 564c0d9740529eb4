"""Measure all contestants in turns and save the results: `make bench`, `make bench BENCH_ARGS="--only propose"`."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import floor, report
from benchmarks.contestant import ROOT, Contestant
from benchmarks.turns import CLOCK_VARIABLE, THREADS_VARIABLE
from ml_backend.demo.real_model import smollm2

OURS = Path(sys.executable)
PEERS = ROOT / ".venv-bench" / "bin" / "python"
OPENVINO = ROOT / ".venv-bench-openvino" / "bin" / "python"
CURRENT_TRL = ROOT / ".venv-bench-trl" / "bin" / "python"
CACHE = ROOT / "rankloop-data"
SPEED = ("propose", "pair", "reward", "ppo", "propose_llama", "pair_llama", "ppo_llama")
WITH_FLOOR = ("propose", "reward", "ppo")
OTHER = ("learned", "frontier", "growth", "preferences", "calibration", "selection")


def contestants(what: str, model: str, real: str) -> list[Contestant]:
    """The contestants of one part, ours first.

    Args:
        what: the part.
        model: folder of GPT-2 small's shape.
        real: folder of the real chat model, which the parts for `llama` use.
    """
    folder = real if what.endswith("_llama") else model

    def ours(name: str) -> Contestant:
        return Contestant(name, OURS, ["-m", "benchmarks.ours", name, folder])

    def peer(name: str, python: Path = PEERS, every: int = 1) -> Contestant:
        return Contestant(name, python, ["-m", "benchmarks.peers", name, folder], every)

    def openvino(part: str, name: str = "openvino") -> Contestant:
        return Contestant(name, OPENVINO, ["-m", "benchmarks.peers_openvino", part, folder, real])

    parts = {
        "propose": [
            peer("pipeline", every=2),
            peer("generate_fp32"),
            peer("generate_bf16"),
            peer("ctranslate2_int8"),
            openvino("propose"),
            openvino("propose_int8", "openvino_int8"),
        ],
        "pair": [openvino("pair"), openvino("pair_int8", "openvino_int8")],
        "reward": [
            peer("tutorial", every=3),
            peer("reward_trl", CURRENT_TRL),
            peer("reward_trl_bf16", CURRENT_TRL),
            peer("hf_dynamic"),
        ],
        "ppo": [peer("ppo_trl", every=2), peer("ppo_trl_bf16", every=2)],
        "propose_llama": [
            peer("generate_fp32_llama", every=2),
            peer("generate_bf16_llama"),
            openvino("propose_llama"),
            openvino("propose_llama_int8", "openvino_int8"),
        ],
        "pair_llama": [openvino("pair_llama"), openvino("pair_llama_int8", "openvino_int8")],
        "ppo_llama": [peer("ppo_trl_llama", every=2)],
    }
    return [ours(what), ours("limits"), *parts[what]]


def measure(what: str, model: str, real: str, rounds: int, log: Path) -> list[Contestant]:
    """Start all contestants, then give each a turn in every round; the first turn is a warm-up."""
    everybody = contestants(what, model, real)
    try:
        for one in everybody:
            say(f"{what}: starting {one.name}")
            one.start(log)
        for number in range(rounds + 1):
            for one in everybody:
                if number == 0 or (number - 1) % one.every == 0:
                    answer = one.turn(log)
                    say(f"{what}: round {number} of {rounds}, {one.name} {answer['seconds']:.2f} s")
    finally:
        for one in everybody:
            one.stop()
    return everybody


def figures(what: str, everybody: list[Contestant]) -> dict[str, Any]:
    """Medians, and ratios to the peers and to the floor."""
    times = {one.name: one.seconds() for one in everybody}
    medians = {name: median(values) for name, values in times.items()}
    measured = next(one for one in everybody if one.name == "limits").answers
    measured = measured[1:] or measured
    limits = {name: median(answer[name] for answer in measured) for name in ("gflops_fp32", "gflops_bf16", "read_gb_s")}
    fast = limits["gflops_bf16"] > limits["gflops_fp32"]
    best = floor.Limits(limits["gflops_bf16" if fast else "gflops_fp32"], limits["read_gb_s"], 2 if fast else 4)
    ours = everybody[0]
    at_best = _floor_s(what, best, ours)
    peers = [one for one in everybody if one.name not in {what, "limits"}]
    found: dict[str, Any] = {
        f"{what}_vs_{one.name.removeprefix('ppo_').removeprefix('reward_').removesuffix('_llama')}": (
            medians[one.name] / medians[what]
        )
        for one in peers
    }
    if at_best is not None:
        found[f"{what}_over_floor"] = medians[what] / at_best
    if what.startswith("ppo"):
        found[f"{what}_memory_share_of_trl"] = ours.peak_mb() / peers[0].peak_mb()
    found["details"] = {
        what: {
            "seconds": {name: values for name, values in times.items() if name != "limits"},
            "peak_mb": {one.name: one.peak_mb() for one in everybody if one.name != "limits"},
            "floor_s": at_best,
            "limits": limits,
            **report.circumstances(),
        }
    }
    return found


def _floor_s(what: str, best: floor.Limits, ours: Contestant) -> float | None:
    """The least time that the work can take, for the parts whose arithmetic is counted."""
    if what not in WITH_FLOOR:
        return None
    if what == "reward":
        return floor.reward_step(best, ours.answers[-1]["tokens_per_step"])
    return floor.propose(best) if what == "propose" else floor.ppo_iteration(best)


def say(line: str) -> None:
    """Print a line of progress."""
    print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)


def main() -> None:
    """Measure the chosen parts and update the results."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=[*SPEED, *OTHER], help="parts to measure; others keep old results")
    parser.add_argument("--rounds", type=int, default=4, help="turns per contestant, after one warm-up turn")
    parser.add_argument("--seeds", type=int, default=5, help="runs of each learner in `learned`")
    parser.add_argument("--threads", type=int, default=2, help="threads per contestant")
    parser.add_argument(
        "--clock", choices=["wall", "cpu"], default="wall", help="use cpu, with one thread, on a busy machine"
    )
    parser.add_argument(
        "--real-model",
        help="a chat model's folder, for more rows in `preferences` and `selection`, and for `frontier` to train",
    )
    parser.add_argument("--preferences", help="a preference file, for a row of the real model in `preferences`")
    options = parser.parse_args()
    os.environ[THREADS_VARIABLE], os.environ[CLOCK_VARIABLE] = str(options.threads), options.clock
    chosen = options.only or [*SPEED, *OTHER]
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "peers.log"
        if any(what in SPEED for what in chosen):
            subprocess.run([OURS, "-m", "benchmarks.make_model", folder], check=True, cwd=ROOT)
        real = str(smollm2(CACHE)) if any(what in SPEED for what in chosen) else ""
        for what in chosen:
            try:
                if what in SPEED:
                    report.merge(figures(what, measure(what, folder, real, options.rounds, log)))
                else:
                    command = [OURS, "-m", f"benchmarks.{what}", "--seeds", str(options.seeds)]
                    if what in ("frontier", "preferences", "selection"):
                        given = {"--real-model": options.real_model}
                        given |= {"--preferences": options.preferences} if what == "preferences" else {}
                        command += [part for name, value in given.items() if value for part in (name, value)]
                    subprocess.run(command, check=True, cwd=ROOT)
            except RuntimeError as error:
                sys.exit(f"{error}\n{log.read_text(encoding='utf-8')[-3000:]}")
            report.write_page()
    say(f"Results are in {report.RESULTS} and {report.PAGE}.")


if __name__ == "__main__":
    main()
