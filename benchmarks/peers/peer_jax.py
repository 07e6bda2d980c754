"""JAX: one jitted function, NHWC, parameters and Adam's moments donated.

The thread count is the worker's CPU affinity: XLA sizes its pool by it. Two ways to pool:
`reduce_window` is the usual one; `reshape` (maximum over two axes of [N, H/2, 2, W/2, 2, C]) is
faster backward, and shares the gradient among equal maxima instead of giving it to the first, so
its losses drift off in the last digits.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial

import numpy as np

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jax.numpy as jnp
from jax import lax


def version() -> str:
    """The installed version."""
    return str(jax.__version__)


def training(
    parameters: list[np.ndarray], images: np.ndarray, labels: np.ndarray, threads: int, variant: str
) -> Callable[[int], float]:
    """One step of Adam a call; see `benchmarks.peers`."""
    inputs = [jnp.asarray(batch) for batch in images]
    targets = [jnp.asarray(batch) for batch in labels]
    values = [jnp.array(value) for value in parameters]
    zeros = jax.tree.map(jnp.zeros_like, values)
    state = (values, zeros, jax.tree.map(jnp.copy, zeros), jnp.zeros((), jnp.float32))

    def loss_of(values: list[jax.Array], x: jax.Array, target: jax.Array) -> jax.Array:
        log_p = jax.nn.log_softmax(_forward(values, x, variant))
        return -jnp.take_along_axis(log_p, target[:, None], axis=1).mean()

    @partial(jax.jit, donate_argnums=(0,))
    def train(state, x, target):  # type: ignore[no-untyped-def]
        values, m, v, t = state
        loss, gradient = jax.value_and_grad(loss_of)(values, x, target)
        t = t + 1
        m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, gradient)
        v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, v, gradient)
        scale1, scale2 = 1 / (1 - 0.9**t), 1 / (1 - 0.999**t)
        values = jax.tree.map(
            lambda w, m, v: w - 1e-3 * (m * scale1) / (jnp.sqrt(v * scale2) + 1e-8), values, m, v
        )
        return (values, m, v, t), loss

    def step(i: int) -> float:
        nonlocal state
        state, loss = train(state, inputs[i % len(inputs)], targets[i % len(targets)])
        jax.block_until_ready(state)
        return float(loss)

    return step


def inference(
    parameters: list[np.ndarray], images: np.ndarray, threads: int, variant: str
) -> Callable[[int], np.ndarray]:
    """One forward a call; see `benchmarks.peers`."""
    values = [jnp.asarray(value) for value in parameters]
    inputs = [jnp.asarray(batch) for batch in images]
    forward = jax.jit(lambda x: _forward(values, x, variant))
    return lambda i: np.asarray(forward(inputs[i % len(inputs)]))


def _forward(values: list[jax.Array], x: jax.Array, variant: str) -> jax.Array:
    for i in (0, 2, 4):
        x = lax.conv_general_dilated(
            x, values[i], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        x = _max_pool(jax.nn.relu(x + values[i + 1]), variant)
    return x.reshape(x.shape[0], -1) @ values[6] + values[7]


def _max_pool(x: jax.Array, variant: str) -> jax.Array:
    if variant == "reduce_window":
        return lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "SAME")
    N, H, W, C = x.shape
    OH, OW = (H + 1) // 2, (W + 1) // 2
    # Zeros are neutral here: relu came before.
    x = jnp.pad(x, ((0, 0), (0, 2 * OH - H), (0, 2 * OW - W), (0, 0)))
    return x.reshape(N, OH, 2, OW, 2, C).max((2, 4))
