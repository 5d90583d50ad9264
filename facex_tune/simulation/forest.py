"""A regression forest that answers for one point in a fraction of a millisecond.

scikit-learn grows it; what it costs to ask it for a single point there is the ceremony around each tree, and a
simulation asks for one configuration after another. So the trees are laid side by side, and all go down at once.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
TREES = 100


class Forest:
    """Extremely randomized trees from features_NF to values_NV.

    Args:
        seed: equal seeds grow equal trees.
    """

    def __init__(self, features_NF: Floats, values_NV: Floats, seed: int) -> None:
        from sklearn.ensemble import ExtraTreesRegressor

        model = ExtraTreesRegressor(TREES, min_samples_leaf=2, random_state=seed, max_features=0.7)
        scale_V = values_NV.std(axis=0)
        self._scale_V = np.where(scale_V > 0, scale_V, 1.0)  # no output counts for more because its numbers are larger
        scaled_NV = values_NV / self._scale_V
        model.fit(features_NF, scaled_NV if scaled_NV.shape[1] > 1 else scaled_NV[:, 0])
        trees = [each.tree_ for each in model.estimators_]
        starts = np.cumsum([0, *(tree.node_count for tree in trees[:-1])])
        self._roots_T = starts
        self._feature = np.concatenate([tree.feature for tree in trees])
        self._threshold = np.concatenate([tree.threshold for tree in trees])
        self._left = np.concatenate([tree.children_left + at for tree, at in zip(trees, starts, strict=True)])
        self._right = np.concatenate([tree.children_right + at for tree, at in zip(trees, starts, strict=True)])
        self._values_NV = np.concatenate([tree.value[:, :, 0] for tree in trees])

    def of(self, features_F: Floats) -> Floats:
        """values_V at one point, the mean over the trees."""
        point_F = features_F.astype(np.float32)  # as the trees were grown
        at_T = self._roots_T
        while (inner_T := self._feature[at_T] >= 0).any():
            goes_left_T = point_F[self._feature[at_T]] <= self._threshold[at_T]
            at_T = np.where(inner_T, np.where(goes_left_T, self._left[at_T], self._right[at_T]), at_T)
        values_V: Floats = self._values_NV[at_T].mean(axis=0) * self._scale_V
        return values_V
