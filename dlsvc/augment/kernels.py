"""The compiled inner loops: one pass over the output's pixels for all geometry and colour of a list.

Compiled by numba without fast-math: additions stay in their order, so that a sample has the same bits alone, in any
batch and on any number of threads.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

_SETTINGS = {"cache": True, "nogil": True, "fastmath": False}


_Float, _Place = np.float32, np.uintp
_NONE, _ONE, _FULL = _Float(0), _Float(1), _Float(255)
_NEXT = _Place(1)


def warp(
    images: NDArray[np.uint8],
    matrix: NDArray[np.float64],
    colour: NDArray[np.float32],
    scale: NDArray[np.float32],
    offset: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:
    """(B, H, W, C) uint8 read through `matrix` (B, 3, 3) with bilinear weights, mapped by `colour` (B, C, C + 1), cut
    to [0, 255], then times `scale` plus `offset` by channel, into `out` (B, C, H, W) float32 of any strides; C is 1 or
    3. Reading outside repeats the edge.

    Colour comes first, on the source: the map is affine and the weights add up to 1, so the order doesn't matter.
    Everything is float32, whose places are within 1e-4 pixels up to 1,000 a side. Loops are split so that the compiler
    finds vector instructions, and channels written out because it makes loops of three into loops.
    """
    kernel = _warp_colour if images.shape[3] == 3 else _warp_tone
    kernel(images, matrix, colour, scale, offset, out)


@njit(**_SETTINGS)
def _warp_colour(images, matrix, colour, scale, offset, out):
    height, width = images.shape[1:3]
    # A row and a column more, repeating the last: the right and the lower neighbour are always there. The fourth
    # channel is there for the addresses, which are quicker to compute.
    source = np.empty((height + 1, width + 1, 4), np.float32)
    places, parts = np.empty((2, width), np.int32), np.empty((2, width), np.float32)
    row = np.empty((width, 4), np.float32)
    s0, s1, s2 = scale[0], scale[1], scale[2]
    o0, o1, o2 = offset[0], offset[1], offset[2]
    for b in range(images.shape[0]):
        _fill_colour(images[b], colour[b], source)
        for y in range(height):
            _find(matrix[b], y, height, places, parts)
            for x in range(width):
                u, v = _Place(places[0, x]), _Place(places[1, x])
                p, q = parts[0, x], parts[1, x]
                r, s = _ONE - p, _ONE - q
                w11, w12, w21, w22 = r * s, p * s, r * q, p * q
                row[x, 0] = (w11 * source[v, u, 0] + w12 * source[v, u + _NEXT, 0]) + (
                    w21 * source[v + _NEXT, u, 0] + w22 * source[v + _NEXT, u + _NEXT, 0]
                )
                row[x, 1] = (w11 * source[v, u, 1] + w12 * source[v, u + _NEXT, 1]) + (
                    w21 * source[v + _NEXT, u, 1] + w22 * source[v + _NEXT, u + _NEXT, 1]
                )
                row[x, 2] = (w11 * source[v, u, 2] + w12 * source[v, u + _NEXT, 2]) + (
                    w21 * source[v + _NEXT, u, 2] + w22 * source[v + _NEXT, u + _NEXT, 2]
                )
            for x in range(width):
                out[b, 0, y, x] = min(max(row[x, 0], _NONE), _FULL) * s0 + o0
                out[b, 1, y, x] = min(max(row[x, 1], _NONE), _FULL) * s1 + o1
                out[b, 2, y, x] = min(max(row[x, 2], _NONE), _FULL) * s2 + o2


@njit(**_SETTINGS)
def _warp_tone(images, matrix, colour, scale, offset, out):
    height, width = images.shape[1:3]
    source = np.empty((height + 1, width + 1), np.float32)
    places, parts = np.empty((2, width), np.int32), np.empty((2, width), np.float32)
    row = np.empty(width, np.float32)
    for b in range(images.shape[0]):
        _fill_tone(images[b], colour[b], source)
        for y in range(height):
            _find(matrix[b], y, height, places, parts)
            for x in range(width):
                u, v = _Place(places[0, x]), _Place(places[1, x])
                p, q = parts[0, x], parts[1, x]
                upper = (_ONE - p) * source[v, u] + p * source[v, u + _NEXT]
                lower = (_ONE - p) * source[v + _NEXT, u] + p * source[v + _NEXT, u + _NEXT]
                row[x] = (_ONE - q) * upper + q * lower
            for x in range(width):
                out[b, 0, y, x] = min(max(row[x], _NONE), _FULL) * scale[0] + offset[0]


@njit(**_SETTINGS)
def _fill_colour(image, c, source):
    """(H, W, 3) uint8 through the colour map (3, 4), with the last row and column twice."""
    height, width = image.shape[:2]
    c00, c01, c02, c03 = c[0, 0], c[0, 1], c[0, 2], c[0, 3]
    c10, c11, c12, c13 = c[1, 0], c[1, 1], c[1, 2], c[1, 3]
    c20, c21, c22, c23 = c[2, 0], c[2, 1], c[2, 2], c[2, 3]
    for y in range(height):
        for x in range(width):
            red, green, blue = _Float(image[y, x, 0]), _Float(image[y, x, 1]), _Float(image[y, x, 2])
            source[y, x, 0] = c00 * red + c01 * green + c02 * blue + c03
            source[y, x, 1] = c10 * red + c11 * green + c12 * blue + c13
            source[y, x, 2] = c20 * red + c21 * green + c22 * blue + c23
        source[y, width] = source[y, width - 1]
    source[height] = source[height - 1]


@njit(**_SETTINGS)
def _fill_tone(image, c, source):
    """The same for (H, W, 1) and (1, 2)."""
    height, width = image.shape[:2]
    factor, added = c[0, 0], c[0, 1]
    for y in range(height):
        for x in range(width):
            source[y, x] = factor * _Float(image[y, x, 0]) + added
        source[y, width] = source[y, width - 1]
    source[height] = source[height - 1]


@njit(**_SETTINGS)
def _find(m, y, height, places, parts):
    """Where a row of the output is read: whole pixels (2, W) of x and y, and what is left over to the next ones."""
    width = places.shape[1]
    right, bottom = _Float(width - 1), _Float(height - 1)
    across, down = _Float(m[0, 0]), _Float(m[1, 0])
    left, top = _Float(m[0, 1] * y + m[0, 2]), _Float(m[1, 1] * y + m[1, 2])
    for x in range(width):
        sx = min(max(across * _Float(x) + left, _NONE), right)
        sy = min(max(down * _Float(x) + top, _NONE), bottom)
        places[0, x], places[1, x] = np.int32(sx), np.int32(sy)
        parts[0, x], parts[1, x] = sx - _Float(np.int32(sx)), sy - _Float(np.int32(sy))


@njit(**_SETTINGS)
def warp_nearest(masks, matrix, out):
    """(B, H, W) read at the nearest pixel: ids are never mixed."""
    height, width = masks.shape[1:]
    for b in range(masks.shape[0]):
        m = matrix[b]
        for y in range(height):
            for x in range(width):
                sx = min(max(m[0, 0] * x + m[0, 1] * y + m[0, 2], 0.0), width - 1.0)
                sy = min(max(m[1, 0] * x + m[1, 1] * y + m[1, 2], 0.0), height - 1.0)
                out[b, y, x] = masks[b, int(sy + 0.5), int(sx + 0.5)]


@njit(**_SETTINGS)
def colour_sums(images, out):
    """(B, H, W, C) uint8 summed over pixels into `out` (B, C) int64; C is 1 or 3."""
    height, width, channels = images.shape[1:]
    for b in range(images.shape[0]):
        for y in range(height):
            row = images[b, y]
            red = green = blue = np.uint32(0)
            if channels == 3:
                for x in range(width):
                    red += np.uint32(row[x, 0])
                    green += np.uint32(row[x, 1])
                    blue += np.uint32(row[x, 2])
                out[b, 0], out[b, 1], out[b, 2] = out[b, 0] + red, out[b, 1] + green, out[b, 2] + blue
            else:
                for x in range(width):
                    red += np.uint32(row[x, 0])
                out[b, 0] += red
