"""The line that matters in what a failed deployment reports."""

import traceback

from pydantic import BaseModel, ConfigDict, ValidationError

from compute.stack.messages.failures import cause


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


def test_the_last_exception_of_a_traceback() -> None:
    try:
        try:
            int("seven")
        except ValueError as first:
            raise RuntimeError("the model\ncannot be loaded") from first
    except RuntimeError:
        report = traceback.format_exc()
    assert cause(f"Deploying app 'compute' failed:\n{report}") == "RuntimeError: the model cannot be loaded"


def test_a_validation_error_without_its_footnotes() -> None:
    try:
        Strict.model_validate({"modle": 1})
    except ValidationError:
        report = traceback.format_exc()
    line = cause(report)
    assert line.endswith("1 validation error for Strict modle Extra inputs are not permitted")
    assert "https://" not in line


def test_plain_words_stay_and_long_ones_are_cut() -> None:
    assert cause("The deployment is\nunhappy.\n") == "The deployment is unhappy."
    assert len(cause("x" * 5000)) < 500
