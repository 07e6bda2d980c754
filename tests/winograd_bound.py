"""How far Winograd's convolution may lie from the exact one: derived from its formula.

F(m x m, 3 x 3) computes, with T = m + 2, for each tile

    y = A^T [ sum over c of (G g G^T) * (B^T d B) ] A

A matrix product of depth k in floating point lies within gamma(k) |M| |x| of the exact one (Higham,
section 3.5), so the error of the whole chain is at most gamma(sum of the depths) times the chain on
absolute values:

    |A^T| [ sum over c of (|G| |g| |G^T|) * (|B^T| |d| |B|) ] |A|

Depths: the two sides of each transform add at most 5 (B^T, A^T of m = 4: rows of 5 and 5 terms),
3 (G) and 5 (A^T) products; entries of G are rounded, one more each side; the sum over c adds C, the
bias 1, the reference 1. It is the amplification by |A|, |B| and |G| that makes F(4x4) less exact
than a sum of 9 C products, not the number of roundings. The adjoint, for the gradient of the
weight, is bounded by the same chain the other way round, with the tiles as its depth.

The matrices are derived here by themselves, from the points, not copied from the kernel.
"""

import numpy as np
import tolerance

POINTS = {2: (0.0, 1.0, -1.0), 4: (0.0, 1.0, -1.0, 0.5, -2.0)}


def matrices(m):
    """(B^T, G, A^T) of Cook and Toom for the points and infinity."""
    points = POINTS[m]
    T = m + 2
    BT, G, AT = np.zeros((T, T)), np.zeros((T, 3)), np.zeros((m, T))
    for i, a in enumerate(points):
        others = [b for b in points if b != a]
        BT[i, : T - 1] = np.poly(others)[::-1]  # coefficients of prod (x - b), constant term first
        G[i] = a ** np.arange(3) / np.prod([a - b for b in others])
        AT[:, i] = a ** np.arange(m)
    BT[T - 1] = np.poly(points)[::-1]
    G[T - 1, 2] = AT[m - 1, T - 1] = 1.0
    return BT, G, AT


def tile_size(OH, OW, precision="fast"):
    """m of a map of this size: 4 where that needs fewer products, by the same rule as the code."""
    small, large = 16 * -(-OH // 2) * -(-OW // 2), 36 * -(-OH // 4) * -(-OW // 4)
    return 4 if precision == "fast" and large < small else 2


def _tiles(image, m, OH, OW, top, left):
    """[N, tile rows, tile columns, T, T, C], zero outside the image."""
    N, H, W, C = image.shape
    rows, cols, T = -(-OH // m), -(-OW // m), m + 2
    tiles = np.zeros((N, rows, cols, T, T, C))
    for i in range(rows):
        for j in range(cols):
            for a in range(T):
                for b in range(T):
                    h, w = i * m + a - top, j * m + b - left
                    if 0 <= h < H and 0 <= w < W:
                        tiles[:, i, j, a, b] = image[:, h, w]
    return tiles


def filtered(image, weight, OH, OW, top, left, m, absolute=False):
    """The correlation by Winograd's formula in float64, or the same on absolute values."""
    BT, G, AT = (np.abs(a) if absolute else a for a in matrices(m))
    image, weight = (np.abs(np.float64(a)) if absolute else np.float64(a) for a in (image, weight))
    d = np.einsum("ia,nrsabc,jb->nrsijc", BT, _tiles(image, m, OH, OW, top, left), BT)
    g = np.einsum("ia,abco,jb->ijco", G, weight, G)
    y = np.einsum("pi,nrsijc,ijco,qj->nrpsqo", AT, d, g, AT, optimize=True)
    N, rows, _, cols, _, OC = y.shape
    return y.reshape(N, rows * m, cols * m, OC)[:, :OH, :OW]


def filtered_weight(x, dy, top, left, m, absolute=False):
    """The gradient of the weight by the adjoint formula, or the same on absolute values."""
    BT, G, AT = (np.abs(a) if absolute else a for a in matrices(m))
    x, dy = (np.abs(np.float64(a)) if absolute else np.float64(a) for a in (x, dy))
    N, OH, OW, OC = dy.shape
    rows, cols = -(-OH // m), -(-OW // m)
    padded = np.zeros((N, rows * m, cols * m, OC))
    padded[:, :OH, :OW] = dy
    z = np.einsum("pi,nrpsqo,qj->nrsijo", AT, padded.reshape(N, rows, m, cols, m, OC), AT)
    d = np.einsum("ia,nrsabc,jb->nrsijc", BT, _tiles(x, m, OH, OW, top, left), BT)
    du = np.einsum("nrsijc,nrsijo->ijco", d, z, optimize=True)
    return np.einsum("ia,ijco,jb->abco", G, du, G)


def roundings(m, depth):
    """Both sides of the three transforms, the products, bias and reference."""
    transforms = {2: 2 + 2 + 3, 4: 5 + 5 + 5}[m]  # terms of a row of B^T, A^T; G, its entry rounded
    return tolerance.gamma(2 * transforms + depth + 3)


def conv2d(x, weight, bias, pads, m):
    (top, bottom), (left, right) = pads
    OH, OW = x.shape[1] + top + bottom - 2, x.shape[2] + left + right - 2
    size = filtered(x, weight, OH, OW, top, left, m, absolute=True)
    size = size + (0 if bias is None else np.abs(np.float64(bias)))
    return roundings(m, x.shape[3]) * size


def conv2d_backward_input(dy, weight, input_shape, pads, m):
    (top, _), (left, _) = pads
    flipped = weight[::-1, ::-1].transpose(0, 1, 3, 2)
    _, H, W, _ = input_shape
    size = filtered(dy, flipped, H, W, 2 - top, 2 - left, m, absolute=True)
    return roundings(m, dy.shape[3]) * size


def conv2d_backward_weight(x, dy, pads, m):
    (top, _), (left, _) = pads
    N, OH, OW, _ = dy.shape
    tiles = N * -(-OH // m) * -(-OW // m)
    return roundings(m, tiles) * filtered_weight(x, dy, top, left, m, absolute=True)
