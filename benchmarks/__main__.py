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

OURS = Path(sys.executable)
PEERS = ROOT / ".venv-bench" / "bin" / "python"
CURRENT_TRL = ROOT / ".venv-bench-trl" / "bin" / "python"
SPEED = ("propose", "reward", "ppo")
OTHER = ("learned", "frontier", "growth", "preferences")


def contestants(what: str, model: str) -> list[Contestant]:
    """The contestants of one part, ours first."""

    def ours(name: str) -> Contestant:
        return Contestant(name, OURS, ["-m", "benchmarks.ours", name, model])

    def peer(name: str, python: Path = PEERS, every: int = 1) -> Contestant:
        return Contestant(name, python, ["-m", "benchmarks.peers", name, model], every)

    parts = {
        "propose": [
            peer("pipeline", every=2),
            peer("generate_fp32"),
            peer("generate_bf16"),
            peer("ctranslate2_int8"),
        ],
        "reward": [
            peer("tutorial", every=3),
            peer("reward_trl", CURRENT_TRL),
            peer("reward_trl_bf16", CURRENT_TRL),
            peer("hf_dynamic"),
        ],
        "ppo": [peer("ppo_trl", every=2), peer("ppo_trl_bf16", every=2)],
    }
    return [ours(what), ours("limits"), *parts[what]]


def measure(what: str, model: str, rounds: int, log: Path) -> list[Contestant]:
    """Start all contestants, then give each a turn in every round; the first turn is a warm-up."""
    everybody = contestants(what, model)
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
    if what == "propose":
        at_best = floor.propose(best)
    elif what == "reward":
        at_best = floor.reward_step(best, ours.answers[-1]["tokens_per_step"])
    else:
        at_best = floor.ppo_iteration(best)
    peers = [one for one in everybody if one.name not in {what, "limits"}]
    found: dict[str, Any] = {
        f"{what}_vs_{one.name.removeprefix(f'{what}_')}": medians[one.name] / medians[what] for one in peers
    }
    found[f"{what}_over_floor"] = medians[what] / at_best
    if what == "ppo":
        found["ppo_memory_share_of_trl"] = ours.peak_mb() / next(p for p in peers if p.name == "ppo_trl").peak_mb()
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
    parser.add_argument("--real-model", help="a chat model's folder, for more rows in `preferences`")
    parser.add_argument("--preferences", help="a preference file, for a row of the real model in `preferences`")
    options = parser.parse_args()
    os.environ[THREADS_VARIABLE], os.environ[CLOCK_VARIABLE] = str(options.threads), options.clock
    chosen = options.only or [*SPEED, *OTHER]
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "peers.log"
        if any(what in SPEED for what in chosen):
            subprocess.run([OURS, "-m", "benchmarks.make_model", folder], check=True, cwd=ROOT)
        for what in chosen:
            try:
                if what in SPEED:
                    report.merge(figures(what, measure(what, folder, options.rounds, log)))
                else:
                    command = [OURS, "-m", f"benchmarks.{what}", "--seeds", str(options.seeds)]
                    if what == "preferences":
                        given = {"--real-model": options.real_model, "--preferences": options.preferences}
                        command += [part for name, value in given.items() if value for part in (name, value)]
                    subprocess.run(command, check=True, cwd=ROOT)
            except RuntimeError as error:
                sys.exit(f"{error}\n{log.read_text(encoding='utf-8')[-3000:]}")
            report.write_page()
    say(f"Results are in {report.RESULTS} and {report.PAGE}.")


if __name__ == "__main__":
    main()
