"""Linear discriminant analysis: directions in which lines of one group lie close, whatever their topic.

Linear discriminant analysis (Fisher 1936; Rao 1948) with a ridge on the covariance within groups; a line's coordinates
are then scaled to length 1, so that only the angle counts: it separates lines far from every group from lines close to
one, which the posteriors of the Gaussians don't.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Features = NDArray[np.float32]
Groups = NDArray[np.int64]
_NO_SPREAD = 1e-5


class Directions(NamedTuple):
    """`matrix` (d x r) and `offset` (r) from raw features to coordinates; `prototypes` (g x r), each of length 1."""

    matrix: Floats
    offset: Floats
    prototypes: Floats

    def coordinates(self, features: Features) -> Floats:
        """Map features (n x d) to coordinates (n x r) of length 1."""
        u = features @ self.matrix.astype(np.float32) + self.offset.astype(np.float32)
        return np.asarray(u / np.linalg.norm(u, axis=1, keepdims=True), dtype=np.float64)


class Scatter(NamedTuple):
    """Statistics of features: mean and scale (d), groups' means (g x d), covariance within groups (d x d)."""

    mean: Features
    scale: Features
    groups: Features
    within: Features


def scatter(features: Features, group: Groups) -> Scatter:
    """Compute the scatter of features (n x d) by groups (n; 0..g-1, each present)."""
    mean, scale = features.mean(axis=0), features.std(axis=0) + np.float32(1e-6)
    z = (features - mean) / scale
    groups = np.stack([z[group == at].mean(axis=0) for at in range(int(group.max()) + 1)])
    apart = z - groups[group]
    return Scatter(mean, scale, groups - groups.mean(axis=0), apart.T @ apart / np.float32(len(z)))


def directions(given: Scatter, penalty: float) -> Directions:
    """Compute at most g - 1 directions; the penalty is a ridge in units of the mean variance."""
    within = given.within.copy()
    within[np.diag_indices_from(within)] += penalty * np.trace(within) / len(within)
    towards = np.linalg.solve(within, given.groups.T).astype(np.float64)
    between = given.groups.astype(np.float64) @ towards
    values, vectors = np.linalg.eigh((between + between.T) / 2)
    chosen = values > _NO_SPREAD * values.max()
    whiten = vectors[:, chosen] / np.sqrt(values[chosen])
    matrix = (towards @ whiten) / given.scale[:, None]
    prototypes = between @ whiten
    prototypes /= np.linalg.norm(prototypes, axis=1, keepdims=True)
    return Directions(matrix, -given.mean @ matrix, prototypes)
