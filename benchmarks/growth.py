"""How time and memory grow: reward training with up to 20,000 pairs, PPO with the number of answers per iteration."""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import torch

from benchmarks import report
from benchmarks.contestant import ROOT
from benchmarks.curves import plot_growth
from benchmarks.learned import MODEL, SAMPLING, _lines
from benchmarks.turns import clock, threads
from training.config import CycleConfig
from training.data import Preference, PromptRecord
from training.models import RewardModel, TextCodec, load_causal_lm
from training.ppo import PPOTrainer, Start
from training.reward import train_reward

SIZES = (1250, 2500, 5000, 10_000, 20_000)
ANSWERS = (16, 32, 64, 128)
BUDGET_MB = 128
_WORDS_AN_ANSWER = 14
_LOOK_EVERY_S = 0.05


def reward(pairs: int) -> None:
    """Run one epoch over `pairs` pairs; prints seconds and the peak of anonymous memory in MB above the start."""
    config = CycleConfig.for_model(MODEL)
    base, codec = load_causal_lm(MODEL, "cpu"), TextCodec.load(MODEL, config.text)
    dice, prompts = random.Random(0), _lines("prompts.txt")
    words = " ".join(prompts).split()

    def answer() -> str:
        return " ".join(dice.choices(words, k=_WORDS_AN_ANSWER))

    data = [Preference(f"{prompts[index % len(prompts)]} {index}", answer(), answer()) for index in range(pairs)]
    settings = config.reward.model_copy(update={"epochs": 1, "activation_memory_mb": BUDGET_MB})
    start, before, peak, ended = clock(), _anonymous_mb(), [0.0], threading.Event()

    def watch() -> None:
        while not ended.wait(_LOOK_EVERY_S):
            peak.append(_anonymous_mb() - before)

    watching = threading.Thread(target=watch)
    watching.start()
    with tempfile.TemporaryDirectory() as out:
        train_reward(base, codec, data, settings, Path(out))
    ended.set()
    watching.join()
    print(clock() - start, max(peak))


def ppo(answers: int) -> None:
    """Run one iteration after a warm-up; prints its seconds."""
    config = CycleConfig.for_model(MODEL).ppo.model_copy(
        update={"prompts_per_iteration": answers, "sampling": SAMPLING}
    )
    base, codec = load_causal_lm(MODEL, "cpu"), TextCodec.load(MODEL)
    judge = RewardModel.on_base(base, 0.7)
    records = [PromptRecord(prompt) for prompt in _lines("prompts.txt")]
    trainer = PPOTrainer(base, Start(), codec, judge, records, config)
    trainer.measure_baseline()
    trainer.iterate()
    start = clock()
    trainer.iterate()
    print(clock() - start, 0)


def main() -> None:
    """Measure every size in its own process, plot, and write a paragraph."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=1, help="unused; accepted by every part")
    parser.add_argument("--one", nargs=2, metavar=("WHAT", "SIZE"))
    options = parser.parse_args()
    torch.set_num_threads(threads())
    if options.one:
        {"reward": reward, "ppo": ppo}[options.one[0]](int(options.one[1]))
        return
    found: dict[str, list[tuple[float, float]]] = {}
    memory = []
    for what, sizes, title in (
        ("reward", SIZES, "reward training: seconds over pairs"),
        ("ppo", ANSWERS, "PPO: seconds of an iteration over answers"),
    ):
        for size in sizes:
            command = [sys.executable, "-m", "benchmarks.growth", "--one", what, str(size)]
            output = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout
            seconds, peak = map(float, output.split()[-2:])
            found.setdefault(title, []).append((size, seconds))
            if what == "reward":
                memory.append((size, peak))
            print(f"growth: {what} {size}: {seconds:.1f} s, {peak:.0f} MB", flush=True)
    write(found, memory)


def write(found: dict[str, list[tuple[float, float]]], memory: list[tuple[float, float]]) -> None:
    """Save the plot, the figures and a paragraph for the page."""
    plot_growth(found, memory, ROOT / "docs" / "images")
    (pairs, answers) = ([(size, 1000 * seconds / size) for size, seconds in points] for points in found.values())
    text = (
        f"## Growth\n\nOn the demo model. One epoch of reward training takes {pairs[0][1]:.1f} ms per pair with "
        f"{pairs[0][0]:.0f} pairs and {pairs[-1][1]:.1f} ms with {pairs[-1][0]:.0f}; an iteration of PPO takes "
        f"{answers[0][1]:.0f} ms per answer with {answers[0][0]:.0f} answers and {answers[-1][1]:.0f} ms with "
        f"{answers[-1][0]:.0f}. With `activation_memory_mb` at {BUDGET_MB}, memory grows by at most "
        f"{max(peak for _, peak in memory):.0f} MB during reward training; activations beyond the budget are in a "
        "file, whose pages the system can reclaim.\n\n"
        "![Seconds and memory over size](images/growth.png)\n"
    )
    details = {"seconds": found, "memory_mb": memory, "text": text, **report.circumstances()}
    report.merge({"details": {"growth": details}})


def _anonymous_mb() -> float:
    """This process's anonymous memory (not backed by a file) in MB; 0 where the system doesn't report it."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((float(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon")), 0.0)


if __name__ == "__main__":
    main()
