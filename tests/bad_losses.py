"""What the losses refuse, for `bad_inputs.py`."""

from dataclasses import dataclass

import numpy as np
from op_samples import ONE_HOT, normal


@dataclass(frozen=True)
class Bad:
    """What to change in the first sample, and what the exception must be and say."""

    changes: dict
    exception: type
    words: tuple


def _labels(*labels):
    return {"labels": np.array(labels)}


def unlike(*names):
    return {name: Bad({name: normal(7, 5)}, ValueError, (name, r"\(7, 5\)")) for name in names}


def _sample_weights(n):
    return {
        "sample_weight_shape": Bad(
            {"sample_weight": np.ones((1, 5), np.float32)},
            ValueError,
            ("sample_weight", "1, 5", "each"),
        ),
        "sample_weight_double": Bad(
            {"sample_weight": np.ones(5)}, TypeError, ("sample_weight", "float64", "float32")
        ),
        "sample_weight_inf": Bad(
            {"sample_weight": np.full(n, np.inf, np.float32)},
            ValueError,
            ("sample_weight", "inf", "finite"),
        ),
    }


LOSSES_BAD = {
    "softmax_cross_entropy": {
        "label_too_large": Bad(
            _labels(3, 0, 10, 9, 1), ValueError, ("label", r"labels\[2\]", "10")
        ),
        "label_negative": Bad(_labels(3, 0, 9, -1, 1), ValueError, ("label", r"labels\[3\]", "-1")),
        "labels_short": Bad(_labels(3, 0, 9, 9), ValueError, ("labels", "4", "5")),
        "labels_float": Bad(_labels(3.0, 0.0, 9.0, 9.0, 1.0), TypeError, ("labels", "float64")),
        "labels_bool": Bad(_labels(*[True] * 5), TypeError, ("labels", "bool")),
        "one_hot_narrow": Bad({"labels": ONE_HOT[:, :9]}, ValueError, ("labels", "9", "10")),
        "one_axis": Bad({"logits": normal(5)}, ValueError, ("logits", r"\(5,\)")),
        "smoothing": Bad({"label_smoothing": 1.5}, ValueError, ("label_smoothing", "1.5")),
        "smoothing_negative": Bad(
            {"label_smoothing": -0.1}, ValueError, ("label_smoothing", "-0.1")
        ),
        "label_unsigned": Bad(
            {"labels": np.array([3, 2**64 - 1, 0, 0, 0], np.uint64)},
            ValueError,
            (r"labels\[1\]", str(2**64 - 1), "class"),
        ),
        "smoothing_none": Bad({"label_smoothing": None}, ValueError, ("label_smoothing", "None")),
        "smoothing_nan": Bad({"label_smoothing": np.nan}, ValueError, ("label_smoothing", "nan")),
        "class_weights_short": Bad(
            {"class_weights": np.ones(9)}, ValueError, ("class_weights", "9", "10")
        ),
        "class_weights_negative": Bad(
            {"class_weights": np.arange(10) - 1}, ValueError, ("class_weights", "-1", "below 0")
        ),
        "ignore_index_text": Bad({"ignore_index": "9"}, ValueError, ("ignore_index", "'9'", "int")),
        "label_beside_the_ignored": Bad(
            {**_labels(3, 255, 10, 9, 1), "ignore_index": 255},
            ValueError,
            (r"labels\[2\]", "10", "ignore_index = 255"),
        ),
        "ignored_rows": Bad(
            {"labels": ONE_HOT, "ignore_index": 0}, ValueError, ("ignore_index", "sample_weight")
        ),
        **_sample_weights(5),
    },
    "mse_loss": {
        **unlike("targets"),
        **_sample_weights(37),
        "number": Bad(
            {"outputs": np.array(1, np.float32)}, ValueError, ("outputs", "no axes", "N")
        ),
    },
    "l1_loss": unlike("targets"),
    "huber_loss": {
        "delta_0": Bad({"delta": 0.0}, ValueError, ("delta", "0.0", "above 0")),
        "delta_text": Bad({"delta": "1"}, ValueError, ("delta", "'1'", "number")),
    },
    "binary_cross_entropy_with_logits": {
        **unlike("targets"),
        "pos_weight": Bad({"pos_weight": [1, 2]}, ValueError, ("pos_weight", "2", "37")),
        "pos_weight_nan": Bad({"pos_weight": np.nan}, ValueError, ("pos_weight", "nan", "finite")),
        "pos_weight_text": Bad({"pos_weight": [True]}, TypeError, ("pos_weight", "bool")),
    },
}
