"""``python -m pyfastnn info`` and ``python -m pyfastnn check``."""

import argparse
import os
import platform
import sys

import torch

import pyfastnn
from pyfastnn import _C, _build_info, check


def info() -> str:
    """Describe the installation and this machine, one fact a line."""
    facts = {
        "pyfastnn": pyfastnn.__version__,
        "Python": platform.python_version(),
        "torch running": torch.__version__,
        "torch built against": _C.torch_version(),
        "instruction sets": ", ".join(pyfastnn.available_isas()),
        "active instruction set": pyfastnn.active_isa(),
        "PYFASTNN_ISA": os.environ.get("PYFASTNN_ISA", "not set"),
        "threads": f"{torch.get_num_threads()} of {os.cpu_count()} processors",
        "CUDA kernels": f"built for {archs}" if (archs := _build_info.CUDA_ARCHS) else "not built",
        "CUDA device": "available" if torch.cuda.is_available() else "none",
    }
    width = max(map(len, facts))
    return "\n".join(f"{name:<{width}}  {fact}" for name, fact in facts.items())


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m pyfastnn", description=pyfastnn.__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("info", help="what is installed and what this machine has")
    commands.add_parser("check", help="check the kernels against PyTorch; fails if any is wrong")
    if parser.parse_args(argv).command == "info":
        print(info())
        return 0
    return check.main()


if __name__ == "__main__":
    sys.exit(main())
