"""Dropout2d: whole channels, the draws of `dropout`, masks in slots, networks and files."""

import copy

import numpy as np
import pytest
import reference

import pycnn
from pycnn import layers, ops


def test_a_channel_is_kept_whole_or_not_at_all(isa, num_threads, rng):
    x = rng.standard_normal((5, 4, 3, 40), np.float32)
    layer = layers.Dropout2d(0.3, rng=1)
    y = layer(x)
    kept = (y != 0).all(axis=(1, 2))
    np.testing.assert_array_equal(kept, (y != 0).any(axis=(1, 2)))
    draws = reference.dropout_draws(5 * 40, layer.seed, 0).reshape(5, 40)
    np.testing.assert_array_equal(kept, draws >= 0.3)
    np.testing.assert_array_equal(y, x * np.float32(1 / 0.7) * kept[:, None, None, :])
    dy = rng.standard_normal(x.shape).astype(np.float32)
    np.testing.assert_array_equal(layer.backward(dy) != 0, (dy != 0) & kept[:, None, None, :])
    assert ((layer(x) != 0).all(axis=(1, 2)) != kept).any(), "each call has its own mask"
    assert layer.calls == 2
    np.testing.assert_array_equal(layer.eval()(x), x)


def test_one_mask_for_both_layouts_and_types():
    x = np.ones((3, 2, 5, 7), np.float32)
    how = {"seed": 3, "calls": 5}
    y = ops.dropout2d(x, 0.5, **how)
    turned = np.ascontiguousarray(x.transpose(0, 3, 1, 2))
    nchw = ops.dropout2d(turned, 0.5, data_format="NCHW", **how)
    np.testing.assert_array_equal(nchw, y.transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(ops.dropout2d(x.astype(float), 0.5, **how), y)
    flat = ops.dropout(np.ones((3, 7), np.float32), 0.5, **how)
    np.testing.assert_array_equal(y[:, 0, 0], flat)


def test_in_a_network_its_gradient_and_its_state(tmp_path, rng):
    make = lambda: layers.Sequential(  # noqa: E731
        layers.Conv2d(3, 6, 3, padding=1, rng=0), layers.Dropout2d(0.5, rng=4), layers.ReLU()
    )
    model, x = make(), rng.standard_normal((4, 5, 3, 3)).astype(np.float32)
    again = copy.deepcopy(model)
    y = model(x)
    np.testing.assert_array_equal(y, again(x))
    assert model.rng_state() == {"1": [model[1].seed, 1]}
    dx = model.backward(np.ones_like(y))
    dropped = (y == 0).all(axis=(1, 2))
    assert dropped.any()
    assert not dropped.all()
    assert dx.any()
    pycnn.save_model(model, tmp_path / "model")
    loaded = pycnn.load_model(tmp_path / "model")
    assert type(loaded[1]) is layers.Dropout2d
    assert loaded[1].p == 0.5


def test_rows_are_refused():
    with pytest.raises(ValueError, match=r"^Dropout2d: x has shape \(2, 5\), 2 axes; .*Dropout"):
        layers.Dropout2d(0.5)(np.ones((2, 5), np.float32))
    with pytest.raises(ValueError, match=r"^Dropout2d: p is 1"):
        layers.Dropout2d(1)
