"""A server for the tests of programs that use Compute: it speaks the API on loopback, and makes small real images.

    from compute.client import Compute
    from compute.testing import ComputeServer, Fails

    with ComputeServer() as server, Compute(server.url, server.key) as client:
        assert client.tasks.run(prompt="a red dress").status == "COMPLETED"
        server.outcomes.append(Fails("CUDA out of memory", category="OUT_OF_MEMORY"))

It has tasks of every type, event streams that go on, idempotency keys, stored images and signed webhooks. It checks the
names of fields and the sizes of images, and no other values; it has no workflows and no trainings. It needs no Ray, no
torch and no database.
"""

from compute.testing.outcomes import Completes, Fails, Hangs, Outcome, Refusal
from compute.testing.server import ComputeServer

__all__ = ["Completes", "ComputeServer", "Fails", "Hangs", "Outcome", "Refusal"]
