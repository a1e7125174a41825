"""Pictures in vendors' answers: addresses, or base64."""

import base64

from compute.providers.calls.outcomes import AnswerFile, OutcomeUnknownError

__all__ = ["answer_file"]


def answer_file(vendor: str, address: str) -> AnswerFile:
    """The file behind an address or a data URI.

    Raises:
        OutcomeUnknownError: the base64 is cut short.
    """
    if not address.startswith("data:"):
        return AnswerFile(url=address)
    try:
        return AnswerFile(data=base64.b64decode(address.partition(",")[2], validate=True))
    except ValueError as error:
        raise OutcomeUnknownError(f"The picture in the answer of {vendor} is cut short.") from error
