"""Families and the page that tells of them."""

import re
from pathlib import Path

from muxjax.specs.known_families import BARE, BY_ARCHITECTURE, BY_TYPE, FAMILIES

PAGE = Path(__file__).parents[2] / "docs" / "models.md"


def test_the_page_names_every_family_that_is_served_and_no_other():
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert rows == [(family.architecture, family.model_type) for family in FAMILIES]


def test_no_two_families_have_a_name_in_common():
    assert len(BY_ARCHITECTURE) == len(BY_TYPE) == len(BARE) == len(FAMILIES)
    assert not BY_ARCHITECTURE.keys() & BARE.keys()
