"""Families that can be trained, known without any library of models."""

import subprocess
import sys

import pytest

from compute.errors import NotFound
from compute.training.models import families, get_family


def test_families_are_found_by_their_names() -> None:
    assert {"flux", "sdxl"} <= families().keys()
    assert all(get_family(name).name == name for name in families())
    assert get_family("sdxl").part == "unet"


def test_an_unknown_family_is_answered_with_the_known() -> None:
    with pytest.raises(NotFound, match=r"`sd15`.*flux.*sdxl"):
        get_family("sd15")


def test_the_list_needs_no_library_of_models() -> None:
    code = (
        "import sys; from compute.training.models import families; families(); "
        "print(sorted({'torch', 'diffusers', 'transformers', 'peft', 'ray'} & set(sys.modules)))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603
    assert answer.stdout.strip() == "[]"
