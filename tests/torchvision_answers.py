"""What torchvision's networks answer, recorded: so the tests need no PyTorch.

The arrays of a state_dict are made by rule, `arrays(shapes)`, and so are the images. With PyTorch
and torchvision installed `python tests/torchvision_answers.py` prints the table `RECORDED` anew (it
needs no pycnn): the number of parameters for 1000 classes, the CRC-32 of all names and shapes then,
and the first answers for ten classes to `images(name)`.
"""

import zlib

import numpy as np

CLASSES, KEPT = 10, 5
SIZES = {"alexnet": (70, 107), "vgg11": (64, 97)}
VALUES = np.random.default_rng(14).standard_normal(99991).astype(np.float32)


def images(name):
    """Two images [2, H, W, 3]; sizes at which rounding up matters, adaptive pools too."""
    H, W = SIZES.get(name, (71, 100))
    return np.resize(VALUES, (2, H, W, 3))


def arrays(shapes):
    """An array for each name and shape: signals keep their size, and no two arrays are alike."""
    found = {}
    for name, shape in shapes.items():
        kind, begin = name.rpartition(".")[2], zlib.crc32(name.encode()) % 50000
        drawn = np.resize(VALUES[begin : begin + 49999], shape)
        if kind == "num_batches_tracked":
            found[name] = np.zeros((), np.int64)
        elif kind == "running_var":
            found[name] = 1 + np.float32(0.1) * np.abs(drawn)
        elif kind == "weight" and len(shape) > 1:
            found[name] = drawn * np.float32(np.sqrt(1.6 / np.prod(shape[1:])))
        else:
            found[name] = np.float32(0.1) * drawn + np.float32(kind == "weight")
    return found


def checksum(shapes):
    """Of all names and shapes, in any order; counters are not told."""
    lines = [f"{n} {list(s)}" for n, s in shapes.items() if not n.endswith("num_batches_tracked")]
    return zlib.crc32("\n".join(sorted(lines)).encode())


NAMES = (
    "alexnet", "vgg11", "vgg11_bn", "vgg16", "resnet18", "resnet34", "resnet50", "densenet121",
    "squeezenet1_1", "googlenet", "mobilenet_v2", "mobilenet_v3_small", "efficientnet_b0",
)  # fmt: skip


# By torchvision 0.28.0 and PyTorch 2.13.0.
RECORDED = {
    "alexnet": (
        61100840, 3021634729,
        [
            [-0.919547, 1.20168, 3.49339, 0.736595, 0.493298],
            [-1.04719, 1.15889, 3.40483, 0.565207, 0.557286],
        ],
    ),
    "vgg11": (
        132863336, 1318516612,
        [
            [2.23065, 0.626739, 2.6296, 1.39612, 3.00467],
            [2.14374, 0.513914, 2.74689, 1.26664, 3.05216],
        ],
    ),
    "vgg11_bn": (
        132868840, 709220408,
        [
            [1.04318, -0.859352, 3.26765, 0.965334, 1.49769],
            [1.12538, -0.928892, 3.22631, 1.11614, 1.36638],
        ],
    ),
    "vgg16": (
        138357544, 1880910781,
        [
            [0.165825, -0.168769, 0.381755, 0.195948, 0.99936],
            [0.164918, -0.132898, 0.460562, 0.183152, 1.08859],
        ],
    ),
    "resnet18": (
        11689512, 3919402932,
        [
            [-4.09813, 17.0737, -4.66314, 3.23581, -3.45348],
            [-3.68905, 17.0123, -4.65497, 3.11137, -4.18987],
        ],
    ),
    "resnet34": (
        21797672, 2993763900,
        [
            [-74.8709, 154.971, 35.7726, 15.5913, -76.3988],
            [-74.6938, 153.514, 42.1098, 12.5527, -77.1975],
        ],
    ),
    "resnet50": (
        25557032, 2712483944,
        [
            [52.5291, -6.03508, 29.2337, -14.5967, -31.2393],
            [53.0769, -8.2222, 28.346, -14.2815, -31.4755],
        ],
    ),
    "densenet121": (
        7978856, 3751369053,
        [
            [-0.277433, 0.428541, 0.0828798, 0.389605, -0.627895],
            [-0.297601, 0.423638, 0.0856433, 0.409678, -0.596184],
        ],
    ),
    "squeezenet1_1": (
        1235496, 1713698633,
        [
            [0.264636, 0.863949, 0, 0.271275, 0],
            [0.26083, 0.851464, 0, 0.245795, 0],
        ],
    ),
    "googlenet": (
        6624904, 315006641,
        [
            [0.615317, -0.371094, -0.00629547, -0.460392, 0.0756491],
            [0.64115, -0.37667, 0.0375534, -0.463703, 0.0855967],
        ],
    ),
    "mobilenet_v2": (
        3504872, 98886092,
        [
            [0.929531, 0.503557, -0.105268, -0.490339, 0.499124],
            [0.878582, 0.411527, -0.246156, -0.853396, 0.461402],
        ],
    ),
    "mobilenet_v3_small": (
        2542856, 3311991857,
        [
            [0.00706028, 0.258527, -0.0606262, -0.104957, 0.00266468],
            [0.00776471, 0.258672, -0.0602067, -0.104718, 0.0026014],
        ],
    ),
    "efficientnet_b0": (
        5288548, 1177907465,
        [
            [0.121102, -0.13877, 0.28926, -0.0038798, -0.132939],
            [0.121081, -0.138774, 0.289224, -0.00389012, -0.132942],
        ],
    ),
}  # fmt: skip


def torchvision_models():
    """torchvision.models; its compiled part may not load beside this PyTorch."""
    import torch

    register = torch.library.register_fake

    def tolerant(*names, **options):
        decorate = register(*names, **options)

        def decorated(function):
            try:
                return decorate(function)
            except RuntimeError:
                return function

        return decorated

    torch.library.register_fake = tolerant
    try:
        from torchvision import models
    finally:
        torch.library.register_fake = register
    return models


def torchvision_network(name, classes=CLASSES):
    """The network with its arrays made by rule, in eval mode."""
    import torch

    options = {"aux_logits": False, "init_weights": False} if name == "googlenet" else {}
    net = getattr(torchvision_models(), name)(num_classes=classes, **options)
    made = arrays({name: tuple(array.shape) for name, array in net.state_dict().items()})
    net.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in made.items()})
    return net.eval()


def main():
    """Print the table."""
    import torch

    options = {"googlenet": {"aux_logits": False, "init_weights": False}}
    print("RECORDED = {")
    for name in NAMES:
        with torch.device("meta"):
            wide = getattr(torchvision_models(), name)(**options.get(name, {}))
        parameters = sum(p.numel() for p in wide.parameters())
        told = checksum({n: tuple(a.shape) for n, a in wide.state_dict().items()})
        x = torch.from_numpy(images(name).transpose(0, 3, 1, 2).copy())
        with torch.no_grad():
            answers = torchvision_network(name)(x).numpy()
        print(f'    "{name}": (\n        {parameters}, {told},\n        [')
        for row in answers:
            print(f"            [{', '.join(f'{value:.6g}' for value in row[:KEPT])}],")
        print("        ],\n    ),")
    print("}")


if __name__ == "__main__":
    main()
