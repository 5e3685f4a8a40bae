"""Tells what of a model runs fused, and why the rest does not."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import nn

from pyfastnn.fusion import _classes
from pyfastnn.fusion._chain import Chain, is_linear, lacks_kernels, why_not
from pyfastnn.fusion._programs import Program
from pyfastnn.modules import MLP, LinearReLU


@dataclass(frozen=True)
class FusionReport:
    """What of a model runs fused, and why the rest does not; ``print`` it.

    Attributes:
        fused: for every fused call its name and what it computes, for example
            ``{"net.0 .. net.2": "784-128-10"}``.
        left: for every linear layer that is not part of one, and for every module whose forward
            runs as written, the reason.
    """

    fused: dict[str, str] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        """List both, a line each."""
        lines = ["fused:", *(f"  {name}: {what}" for name, what in self.fused.items())]
        lines += ["  nothing"] * (not self.fused)
        if self.left:
            lines += ["not fused:", *(f"  {name}: {why}" for name, why in self.left.items())]
        return "\n".join(lines)


def report_on(model: nn.Module) -> FusionReport:
    """Report on a model as it is now, for its training or evaluation mode."""
    report = FusionReport()
    told: set[nn.Module] = set()  # linear layers about which there is a line
    for path, module in model.named_modules():
        if module in told:
            continue
        if type(module) is MLP:
            reason = module.fallback_reason()
            told.update(module.modules())
            if reason is None:
                linears = [child for child in module if isinstance(child, nn.Linear)]
                report.fused[path or "model"] = _sizes(linears)
            else:
                report.left[path or "model"] = reason
        elif type(module) is LinearReLU:
            told.add(module)
            if reason := lacks_kernels(module):
                report.left.setdefault(path or "model", reason)
            else:
                report.fused.setdefault(path or "model", _sizes([module]))
        elif _classes.is_fused(module):
            for program in _programs(module):
                _tell_program(report, told, path, module, program)
    programs: dict[nn.Module, Program] = {}
    for path, module in model.named_modules():
        if is_linear(module) and module not in told:
            told.add(module)
            report.left.setdefault(path or "model", _why_alone(model, path, module, programs))
    return report


def _programs(module: nn.Module) -> list[Program]:
    """Return what the module has run in its present state, else what it would run."""
    return _classes.programs_of(module).current(module) or [_classes.usual_program(module)]


def _tell_program(
    report: FusionReport, told: set[nn.Module], path: str, module: nn.Module, program: Program
) -> None:
    if program.refusal is not None:
        report.left[path or "model"] = f"runs as written: {program.refusal}"
    for chain in program.chains:
        if told.issuperset(chain.linears):
            continue  # a Sequential inside a forward that is fused as a whole
        told.update(part for part in chain.parts if isinstance(part, nn.Module))
        names = [name for name in chain.names if name != "relu"]
        name = _join(path, names[0]) + (f" .. {_join(path, names[-1])}" if names[1:] else "")
        if reason := chain.reason():
            report.left[name] = f"runs part by part: {reason}"
        else:
            report.fused[name] = _what(chain)
    for name, reason in program.left.items():
        linear = module.get_submodule(name)
        if linear not in told:
            told.add(linear)
            report.left[_join(path, name)] = reason


def _why_alone(
    model: nn.Module, path: str, module: nn.Module, programs: dict[nn.Module, Program]
) -> str:
    """Say why no fused call holds a linear layer, from the forward of the module it belongs to."""
    if reason := why_not(module):
        return reason
    *parents, _ = path.split(".")
    while True:
        owner = model.get_submodule(".".join(parents))
        if type(owner).forward is not nn.Module().forward.__func__:  # type: ignore[attr-defined]
            break
        if not parents:
            return "is alone"
        parents.pop()
    program = programs.setdefault(owner, programs.get(owner) or _classes.usual_program(owner))
    name = type(owner).__name__
    if program.refusal is not None:
        return f"{name}.forward runs as written: {program.refusal}"
    inside = path[len(".".join(parents)) :].lstrip(".")
    if inside in program.left:
        return program.left[inside]
    if any(module in chain.linears for chain in program.chains):
        return "could be fused: call pyfastnn.fuse"
    return f"{name}.forward does not call it"


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _sizes(linears: list[nn.Linear] | tuple[nn.Linear, ...]) -> str:
    return "-".join(str(n) for n in [linears[0].in_features, *(m.out_features for m in linears)])


def _what(chain: Chain) -> str:
    return _sizes(chain.linears)


def nothing_fused(model: nn.Module) -> str:
    """Say in one line why nothing of a model could be fused."""
    left = report_on(model).left
    reasons = "; ".join(f"{name}: {why}" for name, why in list(left.items())[:3])
    return reasons or "the model has no linear layer"
