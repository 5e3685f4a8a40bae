"""Writes a graph as a Python function. Modules and constants are bound to it once.

``torch.fx`` writes ``self.layers.0`` for every call of a child, and each dot costs as much as a
small layer; and it writes constants as text, which not all have.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import fx, nn

Replacements = dict[fx.Node, Callable[..., Any] | None]


def emit(graph: fx.Graph, root: nn.Module, calls: Replacements) -> Callable[..., Any]:
    """Return a graph as a function of the module and of all arguments of its call.

    Args:
        graph: the graph of the module's forward.
        root: the module; it is not kept, the function takes it.
        calls: nodes that are calls of something else with their first argument; None: left out.
    """
    writer = _Writer(root)
    for node in graph.nodes:
        if node in calls:
            replacement = calls[node]
            if replacement is not None:
                writer.call(node, writer.bind(replacement), node.args[:1], {})
        else:
            writer.node(node)
    return writer.function()


class _Writer:
    def __init__(self, root: nn.Module) -> None:
        self._root = root
        self._scope: dict[str, Any] = {}
        self._bound: dict[int, str] = {}
        self._names: dict[fx.Node, str] = {}
        self._parameters: list[str] = []
        self._lines: list[str] = []

    def bind(self, value: Any) -> str:
        """Return a name for a value."""
        if value is self._root:
            return "self"
        if id(value) not in self._bound:
            name = self._bound[id(value)] = f"k{len(self._bound)}"
            self._scope[name] = value
        return self._bound[id(value)]

    def node(self, node: fx.Node) -> None:
        """Write a node."""
        if node.op == "placeholder":
            self._parameters.append(self._name(node))
        elif node.op == "get_attr":
            *path, name = str(node.target).split(".")
            owner = self.bind(self._root.get_submodule(".".join(path)))
            self._lines.append(f"{self._name(node)} = getattr({owner}, {name!r})")
        elif node.op == "call_function":
            self.call(node, self.bind(node.target), node.args, node.kwargs)
        elif node.op == "call_module":
            module = self._root.get_submodule(str(node.target))
            self.call(node, self.bind(module), node.args, node.kwargs)
        elif node.op == "call_method":
            method = f"{self._text(node.args[0])}.{node.target}"
            self.call(node, method, node.args[1:], node.kwargs)
        else:
            self._lines.append(f"return {self._text(node.args[0])}")

    def call(self, node: fx.Node, function: str, args: Any, kwargs: dict[str, Any]) -> None:
        """Write a call."""
        texts = [self._text(arg) for arg in args]
        texts += [f"{name}={self._text(value)}" for name, value in kwargs.items()]
        self._lines.append(f"{self._name(node)} = {function}({', '.join(texts)})")

    def function(self) -> Callable[..., Any]:
        """Compile what was written."""
        head = f"def forward(self, {', '.join(self._parameters)}):"
        source = "\n    ".join([head, *self._lines])
        exec(compile(source, "<fused forward>", "exec"), self._scope)
        run: Callable[..., Any] = self._scope.pop("forward")  # else it would hold itself alive
        return run

    def _name(self, node: fx.Node) -> str:
        return self._names.setdefault(node, f"v{len(self._names)}")

    def _text(self, value: Any) -> str:
        if isinstance(value, fx.Node):
            return self._names[value]
        if isinstance(value, tuple):
            return f"({''.join(f'{self._text(item)}, ' for item in value)})"
        if isinstance(value, list):
            return f"[{', '.join(map(self._text, value))}]"
        if isinstance(value, dict):
            return f"{{{', '.join(f'{self._text(k)}: {self._text(v)}' for k, v in value.items())}}}"
        if isinstance(value, slice):
            parts = value.start, value.stop, value.step
            return f"slice({', '.join(map(self._text, parts))})"
        if type(value) in (int, bool, str, type(None)):
            return repr(value)
        return self.bind(value)
