"""``make bench``: the pytest-benchmark suites, writing ``out/bench.json`` and ``out/bench.csv``.

``python -m benchmarks.run [OPTIONS]`` takes the options of compare.py and those of pytest.
"""

from __future__ import annotations

import sys

import pytest

from benchmarks.machine import HERE

SUITES = ("bench_layers.py", "bench_networks.py")


def main() -> int:
    """Run the suites and return pytest's exit code: not 0 if a provider was refused."""
    json = HERE.parent / "out" / "bench.json"
    json.parent.mkdir(exist_ok=True)
    # pytest-benchmark's own table has one provider; ours, printed at the end, has all of them.
    options = ["--benchmark-quiet", f"--benchmark-json={json}", *sys.argv[1:]]
    return pytest.main([*(str(HERE / suite) for suite in SUITES), *options])


if __name__ == "__main__":
    sys.exit(main())
