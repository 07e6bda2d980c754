"""What activations refuse, for bad_inputs.py."""

import numpy as np
from bad_losses import Bad
from op_activations import ACTIVATIONS
from op_samples import normal

BAD_ACTIVATIONS = {
    "activation": {
        "name": Bad({"kind": "swish"}, ValueError, ("activation", "swish", "hard_swish")),
        "alpha": Bad({"kind": ("elu", 0)}, ValueError, ("elu", "alpha", "0", "above 0")),
    },
    "activation_backward": {
        "none": Bad({"kind": None}, ValueError, ("kind", "None", "dx is dy")),
        "shape": Bad({"v": normal(3, 69)}, ValueError, ("x", "3, 69", "3, 70")),
    },
    "clip": {"low": Bad({"low": np.nan}, ValueError, ("low", "nan", "number"))},
    "leaky_relu": {"slope": Bad({"slope": np.inf}, ValueError, ("slope", "inf", "finite"))},
    "elu": {"alpha": Bad({"alpha": -1.0}, ValueError, ("alpha", "-1", "above 0"))},
    "hard_sigmoid": {"shift": Bad({"shift": "0"}, ValueError, ("shift", "0", "number"))},
    "softplus": {"beta": Bad({"beta": 0}, ValueError, ("beta", "0", "above 0"))},
    **{name: {} for name, options in ACTIVATIONS.items() if not options},
    "prelu": {"slope": Bad({"slope": normal(36)}, ValueError, ("slope", "36", "37"))},
    "prelu_backward": {"slope": Bad({"slope": normal(36)}, ValueError, ("slope", "36", "37"))},
}
