"""How far a set of made samples is from a set of real ones, in the features of some network.

N, M samples, D features, all in float64 on the CPU. What network made the features decides what the figures mean:
compare only figures of the same one, and of the same numbers of samples.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dlsvc.errors import DataError

# Rows at once: pairs of a block and of all others stay below a few hundred MB.
_BLOCK = 1024


def fidelity(real: np.ndarray, made: np.ndarray) -> dict[str, float]:
    """Every distance here of features (N, D) and (M, D). Raises DataError for fewer than 8 samples of either."""
    if min(len(real), len(made)) < 8:
        raise DataError(f"distances between {len(real)} real and {len(made)} made samples say nothing: take 8 or more")
    real, made = real.astype(np.float64), made.astype(np.float64)
    precision, recall = precision_recall(real, made)
    return {
        "frechet_distance": frechet_distance(real, made),
        "kernel_distance": kernel_distance(real, made),
        "precision": precision,
        "recall": recall,
    }


def frechet_distance(real: np.ndarray, made: np.ndarray) -> float:
    """Squared Wasserstein-2 distance of the two sets' Gaussians (Heusel et al. 2017, equation 6), with unbiased
    covariances.

    The root of the product of covariances has the trace of the root of A^(1/2) B A^(1/2), which is symmetric: no
    complex root and no added diagonal are needed, even for fewer samples than features.
    """
    gap = real.mean(0) - made.mean(0)
    one, other = (np.atleast_2d(np.cov(part, rowvar=False)) for part in (real, made))
    root = _root(one)
    # Rounding leaves values below zero where there is no variance.
    shared = np.sqrt(np.clip(np.linalg.eigvalsh(root @ other @ root), 0, None)).sum()
    return max(0.0, float(gap @ gap + np.trace(one) + np.trace(other) - 2 * shared))


def kernel_distance(real: np.ndarray, made: np.ndarray) -> float:
    """Unbiased squared maximum mean discrepancy under the kernel (x·y / D + 1)³ (Bińkowski et al. 2018, section 4), of
    all pairs. It may be slightly below zero.
    """
    within = sum((_kernel_sum(part, part) - _diagonal(part)) / (len(part) * (len(part) - 1)) for part in (real, made))
    return float(within - 2 * _kernel_sum(real, made) / (len(real) * len(made)))


def precision_recall(real: np.ndarray, made: np.ndarray, neighbors: int = 3) -> tuple[float, float]:
    """The share of made samples within the real ones' manifold, and of real ones within the made ones' (Kynkäänniemi et
    al. 2019, equations 1 and 2). A manifold is the balls around its samples that reach their `neighbors`-th neighbour.
    """
    return _covered(made, real, neighbors), _covered(real, made, neighbors)


def _root(covariance: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(covariance)
    root: np.ndarray = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    return root


def _kernel_sum(one: np.ndarray, other: np.ndarray) -> float:
    return float(sum(_kernel(block @ other.T, one.shape[1]).sum() for block in _blocks(one)))


def _diagonal(part: np.ndarray) -> float:
    return float(_kernel(np.square(part).sum(1), part.shape[1]).sum())


def _kernel(products: np.ndarray, num_features: int) -> np.ndarray:
    found: np.ndarray = (products / num_features + 1) ** 3
    return found


def _covered(points: np.ndarray, centres: np.ndarray, neighbors: int) -> float:
    # The nearest centre to a centre is itself.
    radii = np.concatenate([np.partition(_squares(block, centres), neighbors, axis=1) for block in _blocks(centres)])
    reach = radii[:, neighbors]
    return float(np.concatenate([(_squares(block, centres) <= reach).any(1) for block in _blocks(points)]).mean())


def _squares(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Squared distances of all pairs, (N, M)."""
    found: np.ndarray = np.square(one).sum(1)[:, None] + np.square(other).sum(1)[None] - 2 * one @ other.T
    return found


def _blocks(rows: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(rows), _BLOCK):
        yield rows[start : start + _BLOCK]
