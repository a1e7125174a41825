"""`python -m tools.demo_model OUT`: build the demo model, and evaluate it."""

import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import torch
import typer

from tools.demo_model.build import build_demo
from tools.demo_model.evaluate import evaluate, sheet
from tools.demo_model.recipe import SHIPPED, TRIAL

_MEASURED = 96
"""Number of images for the evaluation."""


def main(
    out: Annotated[Path, typer.Argument(help="The folder of the model, which is replaced.")],
    report: Annotated[Path, typer.Option(help="A folder for measurements and contact sheets.")],
    work: Annotated[Path, typer.Option(help="A folder for intermediate results; a second run resumes there.")],
    trial: Annotated[bool, typer.Option("--trial", help="A run of a minute that exercises all parts.")] = False,
) -> None:
    """Build the demo model from scratch: the same seed and the same device give the same model."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    report.mkdir(parents=True, exist_ok=True)
    measured = build_demo(out, work, TRIAL if trial else SHIPPED, device)
    measured["bytes"] = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    measured["adherence"] = {}
    for side, count in ((64, 8),) if trial else ((128, _MEASURED), (256, 16)):
        found, pictures = evaluate(out, count=count, side=side, device=device)
        measured["adherence"][side] = asdict(found)
        sheet(pictures[:32]).save(report / f"held-out-{side}.png")
    (report / "measurements.json").write_text(json.dumps(measured, indent=2))
    print(json.dumps(measured, indent=2))  # noqa: T201 - a command's answer


if __name__ == "__main__":
    typer.run(main)
