"""TensorFlow: one tf.function of raw operators, NHWC, and the fused Adam kernel."""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# Its faster kernels, also on CPUs where they are not the default.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import tensorflow as tf


def version() -> str:
    """The installed version."""
    return str(tf.__version__)


def training(
    parameters: list[np.ndarray], images: np.ndarray, labels: np.ndarray, threads: int, variant: str
) -> Callable[[int], float]:
    """One step of Adam a call; see `benchmarks.peers`."""
    _set_threads(threads)
    inputs = [tf.constant(batch) for batch in images]
    targets = [tf.constant(batch) for batch in labels]
    values = [tf.Variable(value) for value in parameters]
    m = [tf.Variable(tf.zeros_like(value)) for value in values]
    v = [tf.Variable(tf.zeros_like(value)) for value in values]
    beta1_power, beta2_power = tf.Variable(0.9), tf.Variable(0.999)

    @tf.function
    def train(x: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(target, _forward(values, x))
            loss = tf.reduce_mean(losses)
        # The kernel adds epsilon before it corrects the bias of v; scaled, it is the paper's step.
        epsilon = 1e-8 * tf.sqrt(1 - beta2_power)
        for i, gradient in enumerate(tape.gradient(loss, values)):
            tf.raw_ops.ResourceApplyAdam(
                var=values[i].handle, m=m[i].handle, v=v[i].handle,
                beta1_power=beta1_power, beta2_power=beta2_power,
                lr=1e-3, beta1=0.9, beta2=0.999, epsilon=epsilon, grad=gradient,
            )  # fmt: skip
        beta1_power.assign(beta1_power * 0.9)
        beta2_power.assign(beta2_power * 0.999)
        return loss

    def step(i: int) -> float:
        return float(train(inputs[i % len(inputs)], targets[i % len(targets)]))

    return step


def inference(
    parameters: list[np.ndarray], images: np.ndarray, threads: int, variant: str
) -> Callable[[int], np.ndarray]:
    """One forward a call; see `benchmarks.peers`."""
    _set_threads(threads)
    values = [tf.constant(value) for value in parameters]
    inputs = [tf.constant(batch) for batch in images]
    graph = tf.function(lambda x: _forward(values, x))
    graph = graph.get_concrete_function(tf.TensorSpec(images.shape[1:], tf.float32))
    return lambda i: graph(inputs[i % len(inputs)]).numpy()


def _forward(values: list[tf.Variable], x: tf.Tensor) -> tf.Tensor:
    for i in (0, 2, 4):
        x = tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(x, values[i], 1, "SAME"), values[i + 1]))
        x = tf.nn.max_pool2d(x, 2, 2, "SAME")
    return tf.nn.bias_add(tf.matmul(tf.reshape(x, [x.shape[0], -1]), values[6]), values[7])


def _set_threads(threads: int) -> None:
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
