"""Values that the command lines of the examples take."""

import argparse


def positive(text: str) -> int:
    """Read a positive integer; what it raises, argparse shows."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a positive integer, got {text}")
    return number
