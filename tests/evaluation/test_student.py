"""Quantiles and probabilities against scipy's."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special

from facex_tune.evaluation import student


@pytest.mark.parametrize("df", [0.5, 1, 1.3, 2, 4.7, 10, 29.7, 99, 101, 926, 3588, 1e5])
@pytest.mark.parametrize("p", [0.51, 0.6, 0.9, 0.975, 0.9995])
def test_a_quantile_of_t_is_scipys(df: float, p: float) -> None:
    assert student.quantile(df, p) == pytest.approx(float(special.stdtrit(df, p)), rel=1e-10)


def test_normal_probabilities_are_scipys() -> None:
    z = np.linspace(-8, 8, 60).reshape(3, 20)
    assert student.normals_below(z) == pytest.approx(special.ndtr(z), rel=1e-13)


@pytest.mark.parametrize(("df", "p"), [(0, 0.9), (-1, 0.9), (3, 0.5), (3, 1), (float("nan"), 0.9)])
def test_what_has_no_quantile_is_refused(df: float, p: float) -> None:
    with pytest.raises(ValueError, match="no t quantile"):
        student.quantile(df, p)
