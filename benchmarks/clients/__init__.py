"""Libraries and programs that people train networks with, unchanged, with and without ``fuse``.

tests/clients compares the two, ``python -m benchmarks.clients`` times them. Each module defines its
clients as functions that make a :class:`benchmarks.clients.run.Run`.
"""

from __future__ import annotations

from benchmarks.clients import lightning, reinforcement, sb3, skorch_classifier, tabular
from benchmarks.clients.run import Client

CLIENTS = {
    client.name: client
    for module in (sb3, reinforcement, skorch_classifier, lightning, tabular)
    for client in module.CLIENTS
}

__all__ = ["CLIENTS", "Client"]
