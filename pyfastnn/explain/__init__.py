"""Shows what a backward pass does, layer by layer."""

from pyfastnn.explain._explain import explain_backward, layer_outputs
from pyfastnn.explain._logger import BackwardLogger
from pyfastnn.explain._trace import BackwardTrace, LayerTrace
from pyfastnn.explain._warnings import LayerWarning
from pyfastnn.explain._weight import WeightCheck

__all__ = [
    "BackwardLogger",
    "BackwardTrace",
    "LayerTrace",
    "LayerWarning",
    "WeightCheck",
    "explain_backward",
    "layer_outputs",
]
