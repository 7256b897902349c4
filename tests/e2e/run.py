"""End-to-end scenarios with real PostgreSQL, real daemons, real clients. `run.py NAME` runs one; without a name it lists them.

The scenarios are in scenarios_*.py, by theme; each is registered with CTest by CMake. Exit status 0: it holds; 1: it does not; 77: this machine
lacks something (skipped). Any number may run at once: ports name sockets in a directory of each cluster's own, and so do DPDK's file prefixes.
"""

import importlib
import os
import random
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.dont_write_bytecode = True
sys.path.insert(0, str(HERE))
from cluster import PG_BIN, Failure  # noqa: E402
from scenario import SCENARIOS  # noqa: E402

for module in sorted(HERE.glob("scenarios_*.py")):
    importlib.import_module(module.stem)


def main():
    if sys.argv[1:2] == ["--registered"]:
        difference = sorted(set(SCENARIOS) ^ set(sys.argv[2:]))
        print(f"only here or only in tests/CMakeLists.txt: {', '.join(difference)}" if difference else "all scenarios are registered")
        return 1 if difference else 0
    if len(sys.argv) != 2 or sys.argv[1] not in SCENARIOS:
        print("\n".join(SCENARIOS))
        return 0 if len(sys.argv) == 1 else 2
    if not (PG_BIN / "postgres").exists():
        print(f"PostgreSQL's programs are not in {PG_BIN}")
        return 77
    seed = int(os.environ.get("SEED", random.randrange(1 << 30)))
    random.seed(seed)
    print(f"{sys.argv[1]} (SEED={seed})", flush=True)
    try:
        SCENARIOS[sys.argv[1]]()
    except Failure as failure:
        print(f"FAILED: {failure}", flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
