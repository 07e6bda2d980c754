"""The compiled module: checked arrays in, results in place. `pycnn.ops` is its public face."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

_Array = npt.NDArray[Any]
_Padding = tuple[tuple[int, int], tuple[int, int]]

__version__: str
source_hash: str
compiler: str

def isa() -> str: ...
def available_isas() -> list[str]: ...
def use_isa(name: str) -> None: ...
def get_num_threads() -> int: ...
def set_num_threads(n: int) -> None: ...
def available_cpus() -> int: ...
def physical_cores(folder: str, room: int = 1024) -> int: ...
def caches() -> tuple[int, int]: ...
def read_caches(folder: str) -> tuple[int, int]: ...
def set_caches(l2: int, l3: int) -> None: ...
def in_forked_child() -> bool: ...
def has_openmp() -> bool: ...
def last_team_size() -> int: ...
def set_yielding(on: bool) -> None: ...
def trim() -> None: ...
def yielding() -> bool: ...
def tile_sizes() -> dict[str, int]: ...
def fma_peak(seconds: float) -> float: ...
def matmul(
    a: _Array, b: _Array, transpose_a: bool, transpose_b: bool, out: _Array | None
) -> _Array: ...
def linear(
    y: _Array, x: _Array, weight: _Array, bias: _Array | None, activation: Activation
) -> None: ...

class Activation:
    """One of `ops.activations.NAMES`, or "none"; slope: that of "leaky_relu" below zero."""

    def __init__(self, name: str, slope: float) -> None: ...

class Conv2dShape:
    def __init__(
        self,
        x_shape: tuple[int, ...],
        weight_shape: tuple[int, ...],
        stride: tuple[int, int],
        padding: tuple[int, int, int, int] | None,
        dilation: tuple[int, int],
        groups: int,
        nchw: bool,
    ) -> None: ...
    @property
    def input_shape(self) -> tuple[int, int, int, int]: ...
    @property
    def weight_shape(self) -> tuple[int, int, int, int]: ...
    @property
    def output_shape(self) -> tuple[int, int, int, int]: ...
    @property
    def padding(self) -> _Padding: ...
    @property
    def flop(self) -> float: ...
    def choice(self, direction: str, packed: bool = False) -> tuple[str, str, dict[str, float]]: ...
    def balance(self, direction: str, threads: int) -> float: ...

def conv2d_forward(
    y: _Array,
    x: _Array,
    weight: _Array,
    bias: _Array | None,
    shape: Conv2dShape,
    activation: Activation,
    algorithm: str,
    residual: _Array | None = None,
) -> None: ...
def conv2d_backward_input(
    dx: _Array, dy: _Array, weight: _Array, shape: Conv2dShape, algorithm: str
) -> None: ...
def conv2d_backward_weight(
    dweight: _Array, x: _Array, dy: _Array, shape: Conv2dShape, algorithm: str
) -> None: ...
def conv2d_backward_bias(dbias: _Array, dy: _Array) -> None: ...

class ConvTranspose2dShape:
    def __init__(
        self,
        x_shape: tuple[int, ...],
        weight_shape: tuple[int, ...],
        stride: tuple[int, int],
        padding: tuple[int, int, int, int] | None,
        output_padding: tuple[int, int],
        dilation: tuple[int, int],
        groups: int,
        nchw: bool,
    ) -> None: ...
    @property
    def mirror(self) -> Conv2dShape: ...
    @property
    def input_shape(self) -> tuple[int, int, int, int]: ...
    @property
    def weight_shape(self) -> tuple[int, int, int, int]: ...
    @property
    def output_shape(self) -> tuple[int, int, int, int]: ...

def conv_transpose2d_forward(
    y: _Array,
    x: _Array,
    weight: _Array,
    bias: _Array | None,
    shape: ConvTranspose2dShape,
    activation: Activation,
    algorithm: str,
) -> None: ...
def conv_transpose2d_backward_input(
    dx: _Array, dy: _Array, weight: _Array, shape: ConvTranspose2dShape, algorithm: str
) -> None: ...
def conv_transpose2d_backward_weight(
    dweight: _Array, x: _Array, dy: _Array, shape: ConvTranspose2dShape, algorithm: str
) -> None: ...
def set_exact(on: bool) -> None: ...
def is_exact() -> bool: ...

class Network:
    """Steps between numbered values, run as one call; see csrc/ops/network/network.h.

    Value i has floats[i] floats an image and lies at offsets[i] floats an image in the arena, a
    multiple of 16, or at -1 where it is an input or an output. Steps run in the order in which they
    are added, all of them before the first run. Shapes are those of one image; N of a Conv2dShape
    or Pool2dShape does not count.
    """

    def __init__(
        self,
        floats: list[int],
        offsets: list[int],
        inputs: list[int],
        outputs: list[int],
        chunk: int,
    ) -> None: ...
    @property
    def bytes_per_image(self) -> int: ...
    def add_conv2d(
        self,
        x: int,
        y: int,
        shape: Conv2dShape,
        weight: _Array,
        bias: _Array | None,
        activation: Activation,
        pool: str,
        residual: int = -1,
    ) -> None: ...
    def add_conv_transpose2d(
        self,
        x: int,
        y: int,
        shape: ConvTranspose2dShape,
        weight: _Array,
        bias: _Array | None,
        activation: Activation,
    ) -> None: ...
    def add_max_pool2d(self, x: int, y: int, shape: Pool2dShape) -> None: ...
    def add_avg_pool2d(
        self, x: int, y: int, shape: Pool2dShape, count_include_pad: bool
    ) -> None: ...
    def add_batch_norm(
        self,
        x: int,
        y: int,
        weight: _Array,
        bias: _Array,
        mean: _Array,
        var: _Array,
        eps: float,
        relu: bool,
        residual: int = -1,
    ) -> None: ...
    def add_linear(
        self, x: int, y: int, weight: _Array, bias: _Array | None, activation: Activation
    ) -> None: ...
    def add_relu(self, x: int, y: int) -> None: ...
    def add_combine(
        self,
        a: int | _Array,
        b: int | _Array,
        y: int,
        op: str,
        a_shape: tuple[int, ...],
        b_shape: tuple[int, ...],
        y_shape: tuple[int, ...],
        activation: Activation,
    ) -> None:
        """Shapes of one image, without N; those of an array that is a or b are its own."""

    def add_power(self, x: int, y: int, exponent: float) -> None: ...
    def add_sum_to(
        self, x: int, y: int, x_shape: tuple[int, ...], y_shape: tuple[int, ...], scale: float
    ) -> None: ...
    def add_affine(self, x: int, y: int, scale: float, shift: float) -> None: ...
    def add_layer_norm(
        self, x: int, y: int, weight: _Array, bias: _Array | None, eps: float
    ) -> None: ...
    def add_group_norm(
        self, x: int, y: int, weight: _Array, bias: _Array, groups: int, eps: float
    ) -> None: ...
    def add_response_norm(
        self, x: int, y: int, channels: int, size: int, alpha: float, beta: float, k: float
    ) -> None: ...
    def add_move(
        self,
        xs: list[int],
        ys: list[int],
        pieces: list[tuple[int, int, int, int, list[tuple[int, int, int]]]],
        value: float = 0.0,
    ) -> None: ...
    def add_copy(self, x: int, y: int) -> None: ...
    def add_resample(
        self,
        x: int,
        y: int,
        shape: tuple[int, int, int],
        rows: tuple[_Array, _Array, _Array],
        columns: tuple[_Array, _Array, _Array],
        outside: float,
    ) -> None: ...
    def add_python(
        self,
        function: Callable[[list[_Array], list[_Array]], object],
        xs: list[int],
        ys: list[int],
        x_shapes: list[tuple[int, ...]],
        y_shapes: list[tuple[int, ...]],
    ) -> None:
        """Call function(xs, ys), [n, ...] each, ys to be filled; both are valid during the call.

        A y may lie exactly where an x lies: the function then reads before it writes.
        """

    def run(self, arrays: list[_Array], output_shapes: list[tuple[int, ...]]) -> list[_Array]:
        """Fresh outputs; output_shapes with N."""

    def run_one(self, x: _Array, output_shape: tuple[int, ...]) -> _Array:
        """The same for one input and one output, without lists."""

class ConvPoolShape:
    def __init__(self, conv: Conv2dShape, pool_same: bool, relu: bool) -> None: ...
    @property
    def input_shape(self) -> tuple[int, int, int, int]: ...
    @property
    def weight_shape(self) -> tuple[int, int, int, int]: ...
    @property
    def output_shape(self) -> tuple[int, int, int, int]: ...
    def way_back(self, wants_dx: bool) -> str: ...

def conv_pool_forward(
    y: _Array,
    where: npt.NDArray[np.uint8] | None,
    x: _Array,
    weight: _Array,
    bias: _Array | None,
    shape: ConvPoolShape,
    algorithm: str,
) -> None: ...
def conv2d_relu_backward(
    dweight: _Array,
    dbias: _Array | None,
    dx: _Array | None,
    dy: _Array,
    y: _Array,
    x: _Array,
    weight: _Array,
    shape: Conv2dShape,
    algorithm: str,
) -> None: ...
def conv_pool_backward(
    dweight: _Array,
    dbias: _Array | None,
    dx: _Array | None,
    dy: _Array,
    y: _Array,
    where: _Array,
    x: _Array,
    weight: _Array,
    shape: ConvPoolShape,
) -> None: ...

class Pool2dShape:
    def __init__(
        self,
        op: str,
        x_shape: tuple[int, ...],
        kernel_size: tuple[int, int],
        stride: tuple[int, int],
        padding: tuple[int, int, int, int] | None,
        dilation: tuple[int, int],
        ceil_mode: bool,
    ) -> None: ...
    @staticmethod
    def adaptive(
        op: str, x_shape: tuple[int, ...], output_size: tuple[int, int]
    ) -> Pool2dShape: ...
    @property
    def input_shape(self) -> tuple[int, int, int, int]: ...
    @property
    def output_shape(self) -> tuple[int, int, int, int]: ...

def max_pool2d_forward(
    y: _Array,
    indices: npt.NDArray[np.int32] | None,
    x: _Array,
    shape: Pool2dShape,
    op: str = "max_pool2d",
) -> None: ...
def max_pool2d_backward(dx: _Array, dy: _Array, indices: _Array) -> None: ...
def avg_pool2d_forward(
    y: _Array, x: _Array, shape: Pool2dShape, count_include_pad: bool, op: str = "avg_pool2d"
) -> None: ...
def avg_pool2d_backward(
    dx: _Array,
    dy: _Array,
    shape: Pool2dShape,
    count_include_pad: bool,
    op: str = "avg_pool2d_backward",
) -> None: ...
def relu(y: _Array, x: _Array) -> None: ...
def relu_backward(dx: _Array, dy: _Array, y: _Array) -> None: ...
def softmax(y: _Array, x: _Array, logarithm: bool) -> None: ...
def softmax_backward(dx: _Array, dy: _Array, y: _Array, logarithm: bool) -> None: ...
def softmax_cross_entropy(
    dlogits: _Array,
    logits: _Array,
    labels: _Array,
    label_smoothing: float,
    class_weights: _Array | None,
    ignore_index: int | None,
    sample_weight: _Array | None,
) -> float: ...
def pointwise_loss(
    name: str,
    dx: _Array,
    x: _Array,
    target: _Array,
    delta: float,
    pos_weight: _Array | None,
    sample_weight: _Array | None,
) -> float: ...
def add_bias(y: _Array, bias: _Array) -> None: ...
def accumulate(total: _Array, part: _Array) -> None: ...
def combine(y: _Array, a: _Array, b: _Array, op: str, activation: Activation) -> None: ...
def power(y: _Array, x: _Array, dy: _Array | None, exponent: float, factor: float) -> None: ...
def sum_to(y: _Array, x: _Array, op: str, other: _Array | None, scale: float) -> None: ...
def affine(y: _Array, x: _Array, scale: float, shift: float) -> None: ...
def check_move(
    op: str,
    sources: Sequence[tuple[str, _Array]],
    targets: Sequence[tuple[str, _Array | None, tuple[int, ...], str]],
    in_place: bool = False,
) -> None: ...
def move(pieces: list[tuple[_Array, _Array]]) -> None: ...
def resample(
    y: _Array,
    x: _Array,
    rows: tuple[_Array, _Array, _Array],
    columns: tuple[_Array, _Array, _Array],
    outside: float,
) -> None: ...
def layer_norm(
    y: _Array,
    kept: _Array | None,
    x: _Array,
    weight: _Array,
    bias: _Array | None,
    eps: float,
) -> None: ...
def layer_norm_backward(
    dx: _Array | None,
    dweight: _Array,
    dbias: _Array | None,
    dy: _Array,
    x: _Array,
    weight: _Array,
    kept: _Array,
) -> None: ...
def group_norm(
    y: _Array,
    kept: _Array,
    x: _Array,
    weight: _Array,
    bias: _Array,
    groups: int,
    eps: float,
) -> None: ...
def group_norm_backward(
    dx: _Array | None,
    dweight: _Array,
    dbias: _Array,
    dy: _Array,
    x: _Array,
    weight: _Array,
    kept: _Array,
    groups: int,
) -> None: ...
def response_norm(
    y: _Array,
    dy: _Array | None,
    x: _Array,
    size: int,
    alpha: float,
    beta: float,
    k: float,
) -> None: ...
def adam_step(
    param: _Array,
    grad: _Array,
    m: _Array,
    v: _Array,
    step: int,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
) -> None: ...
def sgd_step(
    param: _Array,
    grad: _Array,
    velocity: _Array | None,
    lr: float,
    momentum: float,
    nesterov: bool,
    weight_decay: float,
) -> None: ...
def rmsprop_step(
    param: _Array,
    grad: _Array,
    square: _Array,
    buffer: _Array | None,
    lr: float,
    alpha: float,
    eps: float,
    momentum: float,
    weight_decay: float,
) -> None: ...
def adam_all(
    roles: list[list[_Array]],
    weight_decay: list[float],
    step: int,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
) -> bool: ...
def sgd_all(
    roles: list[list[_Array]],
    weight_decay: list[float],
    lr: float,
    momentum: float,
    nesterov: bool,
) -> bool: ...
def rmsprop_all(
    roles: list[list[_Array]],
    weight_decay: list[float],
    lr: float,
    alpha: float,
    eps: float,
    momentum: float,
) -> bool: ...
def square_sum(arrays: list[_Array]) -> float: ...
def scale_all(arrays: list[_Array], factor: float) -> None: ...
def batch_norm(
    y: _Array,
    mean: _Array,
    var: _Array,
    x: _Array,
    weight: _Array,
    bias: _Array,
    running_mean: _Array | None,
    running_var: _Array | None,
    momentum: float,
    eps: float,
    relu: bool,
    residual: _Array | None = None,
) -> None: ...
def batch_norm_inference(
    y: _Array,
    x: _Array,
    weight: _Array,
    bias: _Array,
    mean: _Array,
    var: _Array,
    eps: float,
    relu: bool,
    residual: _Array | None = None,
) -> None: ...
def batch_norm_backward(
    dx: _Array | None,
    dweight: _Array,
    dbias: _Array,
    dy: _Array,
    x: _Array,
    weight: _Array,
    bias: _Array,
    mean: _Array,
    var: _Array,
    eps: float,
    relu: bool,
    y: _Array | None = None,
    residual_gradient: _Array | None = None,
) -> None: ...
def conv2d_norm(
    y: _Array,
    z: _Array,
    mean: _Array,
    var: _Array,
    x: _Array,
    weight: _Array,
    bias: _Array | None,
    gamma: _Array,
    beta: _Array,
    running_mean: _Array | None,
    running_var: _Array | None,
    momentum: float,
    eps: float,
    relu: bool,
) -> None: ...
def conv2d_norm_backward(
    dx: _Array | None,
    dweight: _Array,
    dgamma: _Array,
    dbeta: _Array,
    dy: _Array,
    z: _Array,
    x: _Array,
    weight: _Array,
    gamma: _Array,
    beta: _Array,
    mean: _Array,
    var: _Array,
    eps: float,
    relu: bool,
) -> None: ...
def dropout(y: _Array, x: _Array, p: float, seed: int, calls: int) -> None: ...
def gather_images(
    y: _Array, images: _Array, indices: _Array, scale: float, normalization: _Array | None
) -> None: ...
def augment_images(
    y: _Array,
    images: _Array,
    indices: _Array,
    scale: float,
    normalization: _Array | None,
    options: tuple[float, ...],
    seed: int,
    epoch: int,
) -> None: ...
