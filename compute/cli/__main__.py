"""python -m compute.cli"""

from compute.cli import app

app()
