"""How long `cllm --help` and `import cllm` take, from a warm disk, against their budgets."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

from surroundings import surroundings

RUNS = 15
BUDGETS_S = {"help": 0.4, "import": 0.15}


def seconds(command: list[str]) -> list[float]:
    """Wall seconds of `RUNS` runs of a command, after two that are thrown away."""
    taken = []
    for _ in range(RUNS + 2):
        start = time.perf_counter()
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
        taken.append(time.perf_counter() - start)
    return taken[2:]


def main() -> None:
    cllm = str(Path(sys.executable).with_name("cllm"))
    python = seconds([sys.executable, "-c", "pass"])
    imported = seconds([sys.executable, "-c", "import cllm"])
    shown = seconds([cllm, "--help"])
    bare_s = statistics.median(python)
    # The import is what cllm adds to an interpreter that starts anyway.
    medians = {
        "help": statistics.median(shown),
        "import": statistics.median(imported) - bare_s,
    }
    for name, budget in BUDGETS_S.items():
        print(f"{name}: {medians[name]:.3f} s (budget {budget} s)")
    result = {
        "benchmark": "startup",
        "help_s": round(medians["help"], 4),
        "help_spread_s": round(max(shown) - min(shown), 4),
        "import_s": round(medians["import"], 4),
        "import_spread_s": round(max(imported) - min(imported), 4),
        "python_s": round(bare_s, 4),
        "runs": RUNS,
        "is_within_budget": all(medians[name] < budget for name, budget in BUDGETS_S.items()),
        **surroundings(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
