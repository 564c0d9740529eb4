"""Checks on a GPU that it computes what the CPU computes, then measures how fast it is.

    python scripts/gpu_check --out gpu_check.json

Needs torch, transformers and what `training` imports (pydantic, rich); peft for LoRA. `--cpu-smoke` runs all of it on
the CPU with tiny models, to see that the check itself works.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import platform
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
NEEDED = ("torch", "transformers", "tokenizers", "safetensors", "pydantic", "rich", "filelock")


def main() -> int:
    """Run the checks, print them, and write them as JSON; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("gpu_check.json"), help="where the figures go")
    parser.add_argument("--cpu-smoke", action="store_true", help="tiny models on the CPU")
    parser.add_argument("--seconds", type=float, default=210.0, help="start no further measurement after this long")
    options = parser.parse_args()
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        print(f"These packages are missing: pip install {' '.join(missing)}", file=sys.stderr)
        return 2
    sys.path.insert(0, str(ROOT))
    import torch

    if not options.cpu_smoke and not torch.cuda.is_available():
        print("There is no CUDA device here. --cpu-smoke tries the check itself on the CPU.", file=sys.stderr)
        return 2
    device = torch.device("cpu" if options.cpu_smoke else "cuda")
    report = _run(device, options.seconds, smoke=options.cpu_smoke)
    options.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(f"\nWritten to {options.out}.")
    return 0 if report["equal"] else 1


def _run(device: Any, seconds: float, *, smoke: bool) -> dict[str, Any]:
    import torch
    import transformers

    from scripts.gpu_check.equality import CLOSE, all_checks
    from scripts.gpu_check.shapes import SHAPES, SMOKE_SHAPES
    from scripts.gpu_check.speed import SMOKE, Load, measure

    start = time.perf_counter()
    card = platform.processor() or "CPU" if smoke else torch.cuda.get_device_name(device)
    print(f"{card}, torch {torch.__version__}, transformers {transformers.__version__}\n")
    differences = all_checks(device)
    for what, difference in differences.items():
        print(f"{what:<32} {'equal' if difference < CLOSE else 'DIFFERS'}   {difference:.1e}", flush=True)
    print(f"\n{'shape':<12} {'what':<48} {'seconds':>8} {'tokens/s':>10} {'GiB':>6}")
    rows = []
    for shape, (architecture, settings) in (SMOKE_SHAPES if smoke else SHAPES).items():
        for row in measure(shape, architecture, settings, device, SMOKE if smoke else Load()):
            rows.append(asdict(row))
            peak = "" if row.peak_gib is None else f"{row.peak_gib:.1f}"
            figures = f"{row.seconds:>8.3f} {row.tokens_per_s:>10,.0f} {peak:>6}" if row.seconds else row.note
            print(f"{row.shape:<12} {row.what:<48} {figures}", flush=True)
            if time.perf_counter() - start > seconds:
                print("Stopped: the time is up.")
                break
    return {
        "card": card,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "seconds": round(time.perf_counter() - start, 1),
        "equal": all(difference < CLOSE for difference in differences.values()),
        "differences": differences,
        "rows": rows,
    }


if __name__ == "__main__":
    sys.exit(main())
