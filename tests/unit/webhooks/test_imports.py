"""The sender's process stays light."""

import subprocess
import sys


def test_the_sender_needs_neither_torch_nor_ray() -> None:
    code = (
        "import sys, compute.webhooks.sender; print(sorted({'torch', 'ray', 'diffusers', 'numpy'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603
    assert found.stdout.strip() == "[]"
