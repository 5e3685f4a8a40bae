"""Pictures of networks and of how well they do, drawn with matplotlib.

matplotlib is imported when something is drawn.

Every function takes data and, if wanted, where to draw, and returns where it has drawn.
"""

from pyfastnn.plot._classes import confusion_matrix, precision_recall, roc
from pyfastnn.plot._curves import accuracy_curves, loss_curves
from pyfastnn.plot._images import first_layer, images, top_inputs

__all__ = [
    "accuracy_curves",
    "confusion_matrix",
    "first_layer",
    "images",
    "loss_curves",
    "precision_recall",
    "roc",
    "top_inputs",
]
