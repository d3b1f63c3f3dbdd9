"""The demo models, their matrices rounded to fp8, and activations too, are as certain of right answers as they were."""

from itertools import islice

import pytest

from muxjax.demo.check import perplexity
from muxjax.demo.items import items
from muxjax.demo.recipes import RECIPES
from muxjax.demo.run import shipped


@pytest.mark.parametrize("folder", shipped(), ids=lambda folder: folder.name)
def test_perplexity_stays_as_it_was(folder):
    asked = list(islice(items(RECIPES[folder.name].world, 1), 30))
    whole, narrow, rounded = (perplexity(folder, asked, quantization=quantization) for quantization in (None, "fp8", "fp8_w8a8"))
    assert whole < 1.2
    assert abs(narrow / whole - 1) < 0.01
    assert abs(rounded / whole - 1) < 0.02 and rounded != narrow
