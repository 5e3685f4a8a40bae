"""Finds chains of Linear and ReLU in the graph of a forward, and makes one call of each."""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import fx, nn
from torch.nn import functional as F

from pyfastnn.fusion._chain import RELU, Chain, Part, is_linear, is_plain_linear, why_not
from pyfastnn.fusion._emit import Replacements, emit
from pyfastnn.fusion._reads import Reads
from pyfastnn.modules import LinearReLU

_WRITES = {f"i{name}" for name in "add sub mul matmul truediv floordiv mod pow and or xor".split()}
_WRITES |= {"setitem", "copy_"}
_RELUS = {F.relu, F.relu_, torch.relu, torch.relu_, "relu", "relu_"}


class Rewritten(NamedTuple):
    """A forward whose chains are calls, and the linear layers that stayed as they were."""

    run: Callable[..., Any]
    chains: list[Chain]
    left: dict[str, str]  # name of the linear layer -> reason
    in_evaluation: bool  # whether there are chains without dropout, if there are none now


def rewrite(graph: fx.Graph, root: nn.Module, reads: Reads) -> Rewritten:
    """Replace every chain that has a ReLU.

    Args:
        graph: of calls of the children of ``root``; it is changed.
        root: the module.
        reads: receives what the rewriting relies on besides.
    """
    chains: list[Chain] = []
    left: dict[str, str] = {}
    calls: Replacements = {}
    finder = _Finder(root, reads)
    finder.name_results_of_inplace_relus(graph)
    for node in list(graph.nodes):
        if node.op != "call_module" or not is_linear(finder.module(node)) or node in calls:
            continue
        found = finder.chain_from(node)
        if isinstance(found, str):
            left[str(node.target)] = found
            continue
        chain = Chain([finder.name(link) for link in found], [finder.part(link) for link in found])
        chains.append(chain)
        # At the place of the first: what follows may change the input in place.
        calls |= {node: chain, **dict.fromkeys(found[1:])}
        outside = set(found[-1].users) - set(found)
        found[-1].replace_all_uses_with(node, outside.__contains__)
    run = emit(graph, root, calls)
    return Rewritten(run, chains, left, not chains and _has_chains_without_dropout(graph, root))


def _has_chains_without_dropout(graph: fx.Graph, root: nn.Module) -> bool:
    finder = _Finder(root, Reads(), without_dropout=True)
    linears = [n for n in graph.nodes if n.op == "call_module" and is_linear(finder.module(n))]
    return any(not isinstance(finder.chain_from(node), str) for node in linears)


class _Finder:
    def __init__(self, root: nn.Module, reads: Reads, without_dropout: bool = False) -> None:
        self._root = root
        self._reads = reads
        self._without_dropout = without_dropout

    def module(self, node: fx.Node) -> nn.Module:
        return self._root.get_submodule(str(node.target))

    def name(self, node: fx.Node) -> str:
        return str(node.target) if node.op == "call_module" else RELU

    def part(self, node: fx.Node) -> Part:
        return self.module(node) if node.op == "call_module" else RELU

    def name_results_of_inplace_relus(self, graph: fx.Graph) -> None:
        """After ``z.relu_()`` let every use of z be one of its result, which is the same tensor."""
        for node in graph.nodes:
            changed = node.args[0] if self._is_relu(node) and self._is_inplace(node) else None
            if isinstance(changed, fx.Node):
                changed.replace_all_uses_with(node, partial(operator.lt, node))

    def _is_inplace(self, node: fx.Node) -> bool:
        if node.op == "call_module":
            module = self.module(node)
            self._reads.item(module.__dict__, "inplace", module.inplace, "inplace")
            return bool(module.inplace)
        name = getattr(node.target, "__name__", node.target)
        return name == "relu_" or node.kwargs.get("inplace", False) is True

    def chain_from(self, first: fx.Node) -> list[fx.Node] | str:
        """Follow single uses from a linear layer; a list of nodes, or why there is no chain."""
        if why := why_not(self.module(first)):
            return why
        if len(first.args) != 1 or first.kwargs or not isinstance(first.args[0], fx.Node):
            return "is not called with one positional argument"
        links, end, has_relu = [first], 1, self._activates(first)
        pending = not has_relu  # whether a linear layer waits for its ReLU
        while len(links[-1].users) == 1:
            user = next(iter(links[-1].users))
            if user.args[:1] != (links[-1],) or len(user.all_input_nodes) != 1:
                break
            if self._something_changes_between(links[-1], user):
                break
            if self._is_relu(user) and pending:
                pending, has_relu = False, True
            elif self._is_fusible_linear(user) and not pending:
                pending = is_plain_linear(self.part(user))
            elif not self._does_nothing(user):
                break
            links.append(user)
            if not self._does_nothing(user):
                end = len(links)
        if has_relu and end > 1:
            return links[:end]
        return "is one call already" if has_relu else self._why_no_relu(links[-1])

    def _why_no_relu(self, node: fx.Node) -> str:
        if len(node.users) == 1 and self._something_changes_between(node, next(iter(node.users))):
            return "is not fused: a tensor is changed in place before what follows it"
        if any(map(self._is_relu, node.users)):
            return f"is not fused: what it computes is used {len(node.users)} times"
        for user in node.users:
            if user.op == "call_module" and type(self.module(user)) is nn.ReLU:
                return f"has a ReLU behind it, {user.target}, that {why_not(self.module(user))}"
        return "has no ReLU behind it"

    def _something_changes_between(self, node: fx.Node, user: fx.Node) -> bool:
        """Say whether a tensor, maybe a weight of the chain, may be written in between."""
        node = node.next
        while node is not user:
            name = getattr(node.target, "__name__", str(node.target))
            writes = name.endswith("_") and not name.endswith("__")
            if writes or name in _WRITES or "out" in node.kwargs:
                return True
            node = node.next
        return False

    def _activates(self, node: fx.Node) -> bool:
        return type(self.module(node)) is LinearReLU

    def _is_fusible_linear(self, node: fx.Node) -> bool:
        if node.op != "call_module" or node.kwargs:
            return False
        module = self.module(node)
        return type(module) in (nn.Linear, LinearReLU) and why_not(module) is None

    def _is_relu(self, node: fx.Node) -> bool:
        if node.op == "call_module":
            module = self.module(node)
            return type(module) is nn.ReLU and why_not(module) is None
        return node.target in _RELUS and set(node.kwargs) <= {"inplace"}

    def _does_nothing(self, node: fx.Node) -> bool:
        if node.op == "call_function" and node.target is F.dropout:
            return self._without_dropout or node.kwargs.get("training") is False
        if node.op != "call_module":
            return False
        module = self.module(node)
        if type(module) not in (nn.Identity, nn.Dropout) or why_not(module) is not None:
            return False
        self._reads.item(module.__dict__, "training", module.training, "training")
        if type(module) is nn.Identity or self._without_dropout:
            return True
        return not module.training
