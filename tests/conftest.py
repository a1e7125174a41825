"""Shared by all folders: an S3 server, moto over HTTP; hypothesis' settings; the start and the end of a run."""

import faulthandler
import gc
import os
from collections.abc import Generator, Iterator
from uuid import uuid4

import hypothesis
import pytest

_EXIT_SECONDS = 60

# How fast a machine is says nothing about the code: no example has a time limit, and slow data are no fault. In CI the
# examples are the same each time, so that what fails there is what was changed; elsewhere they are new ones.
hypothesis.settings.register_profile(
    "any machine",
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
    print_blob=True,
    derandomize="CI" in os.environ,
)
hypothesis.settings.load_profile("any machine")


def pytest_configure() -> None:
    """What the developer's shell is set to is nothing that a test may depend on."""
    from compute.settings import SECRETS_VARIABLE, setting_variables

    ours = {name.upper() for name in setting_variables()} | {SECRETS_VARIABLE}
    for name in [name for name in os.environ if name.upper() in ours]:
        del os.environ[name]


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect the tests without collecting garbage, and never look through them and their modules again.

    They are more than a million objects, which live to the end: each full collection took over a second. With these
    out of the way what is left looks young, and would be looked through after every few tests.
    """
    gc.set_threshold(2_000, 10, 50)
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


def pytest_unconfigure() -> None:
    """A thread that a failed test has left must not keep the run from ending: tell which one it is, and end."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        # It waits for the others, and is ended with them.
        return
    faulthandler.dump_traceback_later(_EXIT_SECONDS, exit=True)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The address of an S3 server, empty at first."""
    # Here and below, because most tests need no such library.
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()
    assert server._server is not None
    # moto leaves its listening socket open.
    server._server.server_close()


@pytest.fixture
def s3_environment(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Credentials where boto3 looks for them; the server's address."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test-key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test-secret-value")
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    return s3_server


@pytest.fixture
def bucket(s3_environment: str) -> str:
    """A bucket of the test's own."""
    import boto3

    name = f"bucket-{uuid4().hex}"
    client = boto3.client("s3", endpoint_url=s3_environment, region_name="us-east-1")
    client.create_bucket(Bucket=name)
    client.close()
    return name
