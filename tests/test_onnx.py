"""ONNX files: the runtime computes what the model does, the model comes back, and sentences."""

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_interop import spread, torch_pairs
from test_modelfile import small_models

import pycnn
from pycnn import layers, models
from pycnn.layers import Conv2d, Flatten, Linear, MaxPool2d, ReLU, Sequential
from pycnn.onnx import export_onnx, import_onnx
from pycnn.preprocessing import Normalization

onnx = pytest.importorskip("onnx", reason="onnx is in an extra: pip install '.[onnx]'")


def runtime():
    return pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")


def run(path, x):
    options = runtime().SessionOptions()
    options.intra_op_num_threads = 1
    session = runtime().InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (name,) = [value.name for value in session.get_inputs()]
    return session.run(None, {name: x})[0]


def expected(model, x):
    return model.eval()(model.normalization(x))


def assert_close(a, b):
    """To 1e-5 of the largest number, the rounding of sums in another order."""
    assert a.shape == b.shape
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * max(1.0, np.abs(b).max()))


PADS = ((0, 2), (1, 0))
MODELS = {
    "lecture": (models.mnist_cnn, (28, 28, 1)),
    "same_stride": (lambda: Sequential(Conv2d(2, 3, (3, 2), 2, "same", (1, 2))), (9, 8, 2)),
    "all_options": (lambda: Sequential(Conv2d(4, 6, (2, 3), (2, 1), PADS, (1, 2), 2)), (6, 7, 4)),
    "depthwise": (lambda: Sequential(Conv2d(4, 4, 3, groups=4, bias=False), ReLU()), (5, 5, 4)),
    "pools": (
        lambda: Sequential(
            MaxPool2d(3, (1, 2), ((0, 2), (1, 0))), layers.AvgPool2d(3, 2, "same"),
            layers.AvgPool2d(2, 1, 1, count_include_pad=True), layers.Dropout(0.3),
        ),
        (9, 9, 3),
    ),
    "flat_features": (lambda: Sequential(Linear(5, 4), ReLU(), Linear(4, 2, bias=False)), (5,)),
    "flattened_output": (lambda: Sequential(Conv2d(2, 3, 2), Flatten(), ReLU()), (4, 3, 2)),
    "flattened_twice": (lambda: Sequential(Flatten(), ReLU(), Flatten(), Linear(24, 3)), (4, 3, 2)),
    "nested": (lambda: Sequential(Sequential(Conv2d(1, 2, 2)), Flatten(), Linear(8, 2)), (3, 3, 1)),
    "nothing": (lambda: Sequential(layers.Dropout()), (5,)),
    "normed": (
        lambda: Sequential(
            Conv2d(2, 4, 3, bias=False), layers.BatchNorm2d(4, eps=1e-3), ReLU(),
            layers.GlobalAvgPool2d(), Linear(4, 3),
        ),
        (7, 6, 2),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_the_runtime_computes_the_same_and_the_model_comes_back(name, tmp_path, rng):
    make, image = MODELS[name]
    model = spread(make(), rng)
    if len(image) == 3:
        std = tuple(0.5 + c for c in range(image[-1]))
        model.normalization = Normalization(0.25, std if image[-1] > 1 else 0.5)
    path = tmp_path / "m.onnx"
    export_onnx(model, path, (None, *image))
    x = rng.random((3, *image), np.float32)
    y = expected(model, x)
    if name != "nothing":
        loaded = import_onnx(path)
        assert not loaded.training
        assert loaded.input_shape == image
        assert loaded.normalization == model.normalization
        assert_close(expected(loaded, x), y)
        again = tmp_path / "again.onnx"
        export_onnx(loaded, again, (None, *image))
        assert_close(expected(import_onnx(again), x), y)
    assert_close(run(path, x), y)
    assert_close(run(path, x[:1]), y[:1])


@settings(max_examples=40)
@given(small_models(), st.integers(0, 99))
def test_any_small_model_goes_round(tmp_path_factory, model, seed):
    rng = np.random.default_rng(seed)
    spread(model, rng)
    path = tmp_path_factory.mktemp("any") / "m.onnx"
    export_onnx(model, path, (None, 12, 12, 2))
    x = rng.random((2, 12, 12, 2), np.float32)
    y = expected(model, x)
    assert_close(expected(import_onnx(path), x), y)
    assert_close(run(path, x), y)


def test_the_graph_is_small_and_the_same_each_time(tmp_path):
    paths = [tmp_path / "a", tmp_path / "b"]
    for path in paths:
        export_onnx(models.mnist_cnn(rng=0), path)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    graph = onnx.load(paths[0]).graph
    operators = [node.op_type for node in graph.node]
    assert operators == ["Transpose", *["Conv", "Relu", "MaxPool"] * 3, "Flatten", "Gemm"]
    assert [a.name for a in graph.initializer][:2] == ["0.weight", "0.bias"]
    assert graph.input[0].type.tensor_type.shape.dim[0].dim_param == "N"
    export_onnx(models.mnist_cnn(), paths[0], (4, 28, 28, 1))
    fixed = onnx.load(paths[0]).graph
    assert fixed.input[0].type.tensor_type.shape.dim[0].dim_value == 4
    assert fixed.output[0].type.tensor_type.shape.dim[0].dim_value == 4


def test_what_cannot_be_exported(tmp_path):
    path = tmp_path / "m.onnx"
    model = models.mnist_cnn()
    with pytest.raises(TypeError, match="model is a ReLU; expected a Sequential"):
        export_onnx(ReLU(), path)
    with pytest.raises(TypeError, match=r"0\.weight is float64; expected float32"):
        export_onnx(models.mnist_cnn().astype(np.float64), path)
    with pytest.raises(ValueError, match=r"layer 10 \(Linear\): x has shape"):
        export_onnx(model, path, (None, 40, 40, 1))
    with pytest.raises(TypeError, match="only N may be None"):
        export_onnx(model, path, (None, None, 28, 1))
    with pytest.raises(TypeError, match=r"layer 0 \(Mine\) has no ONNX operator"):
        export_onnx(Sequential(type("Mine", (ReLU,), {})()), path, (None, 3))
    even = Sequential(pycnn.layers.LocalResponseNorm(4))
    with pytest.raises(TypeError, match="has size = 4, of which ONNX takes the channel more"):
        export_onnx(even, path, (None, 6, 6, 4))
    model.normalization = Normalization((0.1, 0))
    with pytest.raises(ValueError, match="expected C = 2 channels"):
        export_onnx(model, path)
    with pytest.raises(pycnn.FileError, match="there is no folder"):
        export_onnx(models.mnist_cnn(), tmp_path / "gone" / "m.onnx")
    assert os.listdir(tmp_path) == []


def node(operator, *inputs, name="", **attributes):
    """An operator on "x"; its result is called y."""
    return onnx.helper.make_node(operator, ["x", *inputs], ["y"], name=name, **attributes)


def chain(path, nodes, shape=("N", 2, 6, 6), arrays=(), kind=None, output="ABCD"):
    """A graph x -> nodes -> y; each node's first input and output are set here."""
    for i, item in enumerate(nodes):
        item.input[0] = "x" if i == 0 else f"t{i}"
        item.output[0] = "y" if i == len(nodes) - 1 else f"t{i + 1}"
    kind = onnx.TensorProto.FLOAT if kind is None else kind
    info = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        nodes, "g", [info("x", kind, shape)], [info("y", kind, list(output))],
        [onnx.numpy_helper.from_array(np.asarray(a), n) for n, a in dict(arrays).items()],
    )  # fmt: skip
    ids = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid("mine", 1)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=ids, ir_version=8), path)
    return path


def floats(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def test_a_channels_first_graph_with_ceil_mode_and_matmul(tmp_path, rng):
    """As other programs write it."""
    arrays = {
        "w": floats(4, 2, 3, 3), "m": floats(36, 3), "b": floats(3), "s": np.array([-1, 36]),
    }  # fmt: skip
    nodes = [
        node("Conv", "w", auto_pad="SAME_UPPER", strides=[1, 1]),
        node("Identity"),
        node("MaxPool", kernel_shape=[2, 2], strides=[2, 3], ceil_mode=1),
        node("Reshape", "s"), node("MatMul", "m"), node("Add", "b"), node("Relu"),
    ]  # fmt: skip
    path = chain(tmp_path / "m.onnx", nodes, ("N", 2, 5, 7), arrays, output="AB")
    model = import_onnx(path)
    assert model.input_shape == (5, 7, 2)
    x = rng.standard_normal((3, 2, 5, 7)).astype(np.float32)
    assert_close(model(x.transpose(0, 2, 3, 1)), run(path, x))


@pytest.mark.parametrize("size", range(3, 12))
def test_ceil_mode_is_the_runtime_s(tmp_path, rng, size):
    for kernel, stride, pad in [(2, 2, 0), (3, 2, 1), (2, 3, 1), (3, 3, 0)]:
        pool = node(
            "MaxPool", kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[pad] * 4, ceil_mode=1
        )
        path = chain(tmp_path / "m.onnx", [pool], ("N", 2, size, size))
        x = rng.standard_normal((1, 2, size, size)).astype(np.float32)
        y = import_onnx(path)(x.transpose(0, 2, 3, 1))
        np.testing.assert_array_equal(y.transpose(0, 3, 1, 2), run(path, x))


SCALES = np.array([1, 2, 2, 2], np.float32)
W, SQUARE = {"w": floats(4, 2, 3, 3)}, {"w": floats(72, 72)}


def flat_gemm(**attributes):
    return [node("Flatten"), node("Gemm", "w", **attributes)]


REFUSED = {
    "operator": ([node("Relu"), node("Det", name="t")], {}, r"node 1 't' \(Det\): pycnn has no"),
    "domain": ([node("Relu", domain="mine")], {}, r"node 0 '' \(mine\.Relu\): pycnn has no such"),
    "images": ([node("Transpose", perm=[1, 0, 2, 3])], {}, "reads the images mixed"),
    "mixed": ([node("Reshape", "s")], {"s": np.array([-1, 6])}, "the images mixed with other axes"),
    "double": ([node("Conv", "w")], {"w": np.zeros((1, 2, 1, 1))}, "is float64; expected float32"),
    "small": (flat_gemm(), {"w": floats(36, 3)}, "expected as many features in both"),
    "flat_conv": ([node("Flatten"), node("Conv", "w")], W, "expected images"),
    "channels": ([node("Conv", "w")], {"w": floats(4, 3, 3, 3)}, "expected in_channels = 3"),
    "axis": ([node("Softmax", axis=0)], {}, "computes with the images of a batch together"),
    "mean": ([node("ReduceMean", axes=[0])], {}, r"axes are \[0\] of \[N, 2, 6, 6\]; expected ot"),
    "concat": ([node("Concat", "x", axis=0)], {}, "axis is 0, the images; expected another"),
    "response": ([node("LRN", size=4)], {}, "its size is 4; expected an odd one"),
    "product": ([node("MatMul", "x")], {}, "both factors are computed"),
    "resize": ([node("Resize", "", "s")], {"s": SCALES}, "expected those of H and W alone"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_node_that_is_not_known_is_named(tmp_path, name):
    nodes, arrays, message = REFUSED[name]
    path = chain(tmp_path / "m.onnx", nodes, arrays=arrays)
    with pytest.raises(pycnn.FileError, match=message) as caught:
        import_onnx(path)
    assert str(caught.value).startswith(str(path))


def test_all_nodes_that_are_not_known_are_named(tmp_path):
    nodes = [node("Det", name="a"), node("Relu"), node("Hardmax", name="b"), node("Relu")]
    path = chain(tmp_path / "m.onnx", nodes)
    with pytest.raises(pycnn.FileError, match="2 nodes cannot be read") as caught:
        import_onnx(path)
    first, *lines = str(caught.value).splitlines()
    assert first == f"{path}: 2 nodes cannot be read:"
    assert [line.strip() for line in lines] == [
        "node 0 'a' (Det): pycnn has no such operator.",
        "node 2 'b' (Hardmax): pycnn has no such operator.",
    ]


def test_computed_weights_and_other_inputs_are_told(tmp_path):
    path = tmp_path / "m.onnx"
    chain(path, [node("Relu")], shape=("N",), output="A")
    with pytest.raises(pycnn.FileError, match="its input 'x' has 1 axes; expected"):
        import_onnx(path)
    chain(path, [node("Relu")], kind=onnx.TensorProto.DOUBLE)
    with pytest.raises(pycnn.FileError, match="its input 'x' is not float32"):
        import_onnx(path)
    chain(path, [node("Conv", "w")], ("N", 2, "H", "W"), W)
    model = import_onnx(path)
    assert model.input_shape is None
    assert model.output_shape((None, 9, 8, 2)) == (None, 7, 6, 4)


def test_other_files_are_told(tmp_path):
    path = tmp_path / "m.onnx"
    with pytest.raises(pycnn.FileError, match="there is no such file"):
        import_onnx(path)
    for content in (b"", b"no onnx", os.urandom(100)):
        path.write_bytes(content)
        with pytest.raises(pycnn.FileError, match=r"m\.onnx: this is no valid ONNX file"):
            import_onnx(path)
    export_onnx(models.mnist_cnn(), path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(pycnn.FileError, match="this is no valid ONNX file"):
        import_onnx(path)


def test_a_missing_library_gives_the_line_to_type(tmp_path, monkeypatch):
    def hide(name, *rest):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr("importlib.import_module", hide)
    with pytest.raises(ImportError, match=r"export_onnx needs onnx.*pip install 'pycnn\[onnx\]'"):
        export_onnx(models.mnist_cnn(), tmp_path / "m")
    with pytest.raises(ImportError, match=r"import_onnx needs onnx.*pip install 'pycnn\[onnx\]'"):
        import_onnx(tmp_path / "m")


@pytest.mark.filterwarnings("default")
def test_what_pytorch_exports_is_imported(tmp_path, rng):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    for model, net, shape in torch_pairs(torch.nn):
        spread(model, rng)
        x = rng.standard_normal(shape).astype(np.float32)
        first = torch.from_numpy(x.transpose(0, 3, 1, 2).copy())
        path = str(tmp_path / "m.onnx")
        torch.onnx.export(net.eval(), (first,), path, dynamo=False)
        with torch.no_grad():
            assert_close(import_onnx(path)(x), net(first).numpy())


@pytest.mark.parametrize("kind", ["Softmax", "LogSoftmax"])
@pytest.mark.parametrize("axis", [{}, {"axis": 1}, {"axis": -1}])
def test_a_softmax_at_the_end_is_left_out(tmp_path, rng, kind, axis):
    nodes = [node("Flatten"), node("Gemm", "w", transB=1)]
    path = chain(tmp_path / "m.onnx", nodes, arrays={"w": floats(3, 72)})
    x = rng.standard_normal((2, 6, 6, 2)).astype(np.float32)
    logits = import_onnx(path)(x)
    chain(path, [*nodes, node(kind, **axis)], arrays={"w": floats(3, 72)})
    with pytest.warns(UserWarning, match=rf"node 2 '' \({kind}\) is left out: the model gives log"):
        model = import_onnx(path)
    np.testing.assert_array_equal(model(x), logits)


def test_a_global_pool_may_be_the_end(tmp_path, rng):
    x = rng.standard_normal((2, 6, 6, 2)).astype(np.float32)
    model = import_onnx(chain(tmp_path / "m.onnx", [node("GlobalAveragePool")]))
    assert_close(model(x), x.mean((1, 2)))
    path = chain(tmp_path / "m.onnx", [node("GlobalAveragePool"), node("LogSoftmax", axis=1)])
    with pytest.warns(UserWarning, match="left out"):
        model = import_onnx(path)
    assert_close(model(x), x.mean((1, 2)))
