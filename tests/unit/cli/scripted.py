"""A server on loopback that answers by script."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler

from tests.servers import Quiet, answering


@dataclass
class Script:
    """What a server answers, and what it was asked."""

    answers: list[tuple[int, str] | tuple[int, str, str]]
    """Status, body and type; the last one is given again and again."""
    asked: list[str] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    """Sent with every answer."""
    url: str = ""


@contextmanager
def server(answers: Sequence[tuple[int, str] | tuple[int, str, str]]) -> Iterator[Script]:
    """A server that gives these answers one after the other, and the last one from then on."""
    script = Script(list(answers))

    class Scripted(Quiet, BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            script.asked.append(f"{self.command} {self.path}")
            self.rfile.read(int(self.headers.get("Content-Length", "0")))
            answer = script.answers.pop(0) if len(script.answers) > 1 else script.answers[0]
            status, body, kind = answer if len(answer) == 3 else (*answer, "application/json")
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body.encode())))
            for name, value in script.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body.encode())

        do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_GET  # noqa: N815 - the name that http.server looks for

    with answering(Scripted) as script.url:
        yield script
