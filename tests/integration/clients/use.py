"""A caller of the client that openapi-python-client makes: draws nothing, asks for a task and looks at it.

Arguments: the API's base, the key.
"""

import sys

from client import AuthenticatedClient
from client.api.tasks import cancel_task, create_generation_task, get_task
from client.models import GenerationTaskPublic, QuickstartCreateTask, QuickstartTask, TaskPriority


def main(base_url: str, key: str) -> None:
    with AuthenticatedClient(base_url=base_url, token=key) as api:
        order = QuickstartCreateTask(prompt="a hat", width=64, height=64, priority=TaskPriority.URGENT)
        made = create_generation_task.sync(client=api, body=order)
        assert isinstance(made, QuickstartTask), made
        canonical = get_task.sync(made.id.removeprefix("task_"), client=api)
        assert not isinstance(canonical, GenerationTaskPublic), canonical
        digits = made.id.removeprefix("task_")
        uuid = f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
        found = get_task.sync(uuid, client=api)
        assert isinstance(found, GenerationTaskPublic), found
        cancelled = cancel_task.sync(made.id, client=api)
        assert isinstance(cancelled, QuickstartTask), cancelled
        sys.stdout.write(f"{cancelled.status}\n")


main(*sys.argv[1:])
