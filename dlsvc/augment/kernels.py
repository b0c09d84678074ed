"""The compiled inner loops: one pass over the output's pixels for all geometry and colour of a list.

Compiled by numba without fast-math: additions stay in their order, so that a sample has the same bits alone, in any
batch and on any number of threads.
"""

from __future__ import annotations

import numpy as np
from numba import njit

_SETTINGS = {"cache": True, "nogil": True, "fastmath": False}


@njit(**_SETTINGS)
def warp(images, matrix, colour, scale, offset, out):
    """(B, H, W, C) uint8 read through `matrix` (B, 3, 3) with bilinear weights, mapped by `colour` (B, C, C + 1), cut
    to [0, 255], then times `scale` plus `offset` by channel, into `out` (B, C, H, W) float32 of any strides. Reading
    outside repeats the edge.
    """
    height, width, channels = images.shape[1:]
    for b in range(images.shape[0]):
        m, c, image = matrix[b], colour[b], images[b]
        a, d = m[0, 0], m[1, 0]
        for y in range(height):
            left, top = m[0, 1] * y + m[0, 2], m[1, 1] * y + m[1, 2]
            for x in range(width):
                sx = min(max(a * x + left, 0.0), width - 1.0)
                sy = min(max(d * x + top, 0.0), height - 1.0)
                x1, y1 = int(sx), int(sy)
                x2, y2 = min(x1 + 1, width - 1), min(y1 + 1, height - 1)
                fx, fy = np.float32(sx - x1), np.float32(sy - y1)
                w11, w12 = (1 - fx) * (1 - fy), fx * (1 - fy)
                w21, w22 = (1 - fx) * fy, fx * fy
                if channels == 3:
                    r = w11 * image[y1, x1, 0] + w12 * image[y1, x2, 0]
                    r += w21 * image[y2, x1, 0] + w22 * image[y2, x2, 0]
                    g = w11 * image[y1, x1, 1] + w12 * image[y1, x2, 1]
                    g += w21 * image[y2, x1, 1] + w22 * image[y2, x2, 1]
                    v = w11 * image[y1, x1, 2] + w12 * image[y1, x2, 2]
                    v += w21 * image[y2, x1, 2] + w22 * image[y2, x2, 2]
                    for k in range(3):
                        value = c[k, 0] * r + c[k, 1] * g + c[k, 2] * v + c[k, 3]
                        value = min(max(value, np.float32(0)), np.float32(255))
                        out[b, k, y, x] = value * scale[k] + offset[k]
                else:
                    r = w11 * image[y1, x1, 0] + w12 * image[y1, x2, 0]
                    r += w21 * image[y2, x1, 0] + w22 * image[y2, x2, 0]
                    value = min(max(c[0, 0] * r + c[0, 1], np.float32(0)), np.float32(255))
                    out[b, 0, y, x] = value * scale[0] + offset[0]


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
    """(B, H, W, C) uint8 summed over pixels into `out` (B, C) int64."""
    height, width, channels = images.shape[1:]
    for b in range(images.shape[0]):
        for y in range(height):
            for x in range(width):
                for k in range(channels):
                    out[b, k] += images[b, y, x, k]
