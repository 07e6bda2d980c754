"""Augmentation in float64, one image at a time, from the formulas of docs/augmentation.md."""

import math

import numpy as np

MASK = 2**64 - 1
STEP = 0x9E3779B97F4A7C15


def mixed(z):
    """The output function of splitmix64 (Steele, Lea & Flood 2014)."""
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & MASK
    return z ^ (z >> 31)


class Draws:
    """The numbered random numbers of one image in one epoch."""

    def __init__(self, seed, epoch, index):
        key = mixed((seed + STEP) & MASK)
        key = mixed((key + epoch) & MASK)
        self.key = mixed((key + index) & MASK)

    def bits(self, number):
        return mixed((self.key + (number + 1) * STEP) & MASK)

    def share(self, number):
        return (self.bits(number) >> 11) / 2**53

    def spread(self, number, most):
        return (2 * self.share(number) - 1) * most

    def whole(self, number, most):
        return int(self.share(number) * (2 * most + 1)) - most


def affine(draws, shape, shift=0.0, rotation=0.0, scale=0.0, shear=0.0, crop=0, flip=0.0):
    """(matrix, origin): the pixel p = (x, y) of the result lies at matrix @ p + origin."""
    H, W = shape
    moved = np.array([draws.spread(0, shift), draws.spread(1, shift)])
    moved += draws.whole(11, crop), draws.whole(12, crop)
    angle = math.radians(draws.spread(2, rotation))
    sizes = np.diag([1 + draws.spread(3, scale), 1 + draws.spread(4, scale)])
    slant = np.array([[1, draws.spread(5, shear)], [0, 1]])
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    mirror = np.diag([-1 if draws.share(13) < flip else 1, 1])
    back = np.linalg.inv(turn @ slant @ sizes @ mirror)
    centre = np.array([(W - 1) / 2, (H - 1) / 2])
    return back, centre - back @ (centre + moved)


def displacement(draws, shape, alpha, sigma):
    """[2, H, W]: along x and y; noise, zero outside the image, through a Gaussian."""
    H, W = shape
    noise = np.zeros((2, H, W))
    for i in range(H):
        for j in range(W):
            bits = draws.bits(16 + i * W + j)
            noise[:, i, j] = (bits >> 40) / 2**23 - 1, (bits >> 16 & 0xFFFFFF) / 2**23 - 1
    radius = math.ceil(3 * sigma)
    weights = {k: math.exp(-0.5 * (k / sigma) ** 2) for k in range(-radius, radius + 1)}
    total = sum(weights.values())

    def filter_of(n):
        rows = [[weights.get(i - j, 0.0) / total for j in range(n)] for i in range(n)]
        return np.array(rows).reshape(n, n)

    return alpha * (filter_of(H) @ noise @ filter_of(W).T)


def bilinear(image, x, y):
    """The image [H, W, C] at the positions x, y [H, W]; zero outside."""
    H, W, _ = image.shape
    value = np.zeros((*x.shape, image.shape[2]))
    x0, y0 = np.floor(x), np.floor(y)
    for down in (0, 1):
        for right in (0, 1):
            i, j = y0 + down, x0 + right
            inside = (i >= 0) & (i < H) & (j >= 0) & (j < W)
            weight = (1 - np.abs(x - j)) * (1 - np.abs(y - i))
            i, j = (np.where(inside, k, 0).astype(int) for k in (i, j))
            value += np.where(inside, weight, 0)[..., None] * image[i, j]
    return value


def rectangle(draws, shape, probability):
    """(top, left, height, width) of what is erased, or None."""
    H, W = shape
    if draws.share(6) >= probability:
        return None
    area = (0.02 + 0.31 * draws.share(7)) * H * W
    ratio = 0.3 + (1 / 0.3 - 0.3) * draws.share(8)
    height = min(max(math.floor(math.sqrt(area * ratio) + 0.5), 1), H)
    width = min(max(math.floor(math.sqrt(area / ratio) + 0.5), 1), W)
    top, left = int(draws.share(9) * (H - height + 1)), int(draws.share(10) * (W - width + 1))
    return top, left, height, width


def augment_images(
    images,
    indices,
    seed,
    epoch,
    shift=0.0,
    rotation=0.0,
    scale=0.0,
    shear=0.0,
    elastic_alpha=0.0,
    elastic_sigma=4.0,
    erase=0.0,
    crop=0,
    flip=0.0,
    brightness=0.0,
    contrast=0.0,
    mean=0.0,
    std=1.0,
):
    shape = images.shape[1:3]
    factor = 1 / 255 if images.dtype == np.uint8 else 1.0
    result = np.zeros((len(indices), *images.shape[1:]))
    for row, index in enumerate(indices):
        draws = Draws(seed, epoch, int(index))
        y, x = np.meshgrid(*(np.arange(n, dtype=float) for n in shape), indexing="ij")
        back, origin = affine(draws, shape, shift, rotation, scale, shear, crop, flip)
        from_x = back[0, 0] * x + back[0, 1] * y + origin[0]
        from_y = back[1, 0] * x + back[1, 1] * y + origin[1]
        if elastic_alpha:
            moved_x, moved_y = displacement(draws, shape, elastic_alpha, elastic_sigma)
            from_x, from_y = from_x + moved_x, from_y + moved_y
        source = np.float64(images[index]) * factor
        image = bilinear(source, from_x, from_y)
        brighter, harder = (1 + draws.spread(*v) for v in ((14, brightness), (15, contrast)))
        middle = brighter * source.mean() if source.size else 0.0
        image = middle + harder * (brighter * image - middle)
        if erased := rectangle(draws, shape, erase):
            top, left, height, width = erased
            image[top : top + height, left : left + width] = 0
        result[row] = (image - np.float64(mean)) / np.float64(std)
    return result
