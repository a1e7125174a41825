"""Reads serve_config.yaml, checks every key, and applies the host and port that were asked for.

`python -m compute.stack.cluster.serve_config FILE` checks a file and does nothing else.
"""

import ipaddress
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import BaseModel, ValidationError

from compute.deployments.args import AppArgs
from compute.stack.errors import StackError
from compute.stack.messages.failures import cause

if TYPE_CHECKING:
    from ray.serve.schema import ServeDeploySchema

__all__ = ["ServeConfig", "check_serve_config", "main", "read_serve_config"]

DEFAULT_PORT = 8000
OUR_APPLICATION = "compute.deployments.app:build"


@dataclass(frozen=True, slots=True)
class ServeConfig:
    """The file's content, and the address on which Serve listens."""

    path: Path
    content: dict[str, Any]
    host: str
    port: int

    @property
    def open_to_others(self) -> bool:
        """Whether other machines can reach it."""
        try:
            return not ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host != "localhost"

    @property
    def url(self) -> str:
        """The URL at which a client on this machine reaches the API."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    def content_for(self, host: str) -> dict[str, Any]:
        """Return the content with Serve listening on `host`."""
        return self.content | {"http_options": self.content["http_options"] | {"host": host}}

    def validated(self) -> "ServeDeploySchema":
        """Return the content as Serve's model. Imports Serve, which takes a second and 100 MB.

        Raises:
            StackError: a key is unknown or a value is wrong.
        """
        from ray.serve.schema import ServeDeploySchema

        # Serve itself ignores unknown keys, so a misspelt option would silently do nothing.
        for unknown in _unknown_keys(ServeDeploySchema, self.content, ()):
            raise StackError(f"{self.path.name}: unknown key {unknown!r}")
        with self._faults_named(""):
            schema = ServeDeploySchema.model_validate(self.content)
        for index, application in enumerate(schema.applications):
            if application.import_path == OUR_APPLICATION:
                # The arguments of our application are checked before Ray is started rather than inside it.
                with self._faults_named(f"applications.{index}.args."):
                    AppArgs.model_validate(application.args)
        return schema

    @contextmanager
    def _faults_named(self, prefix: str) -> Iterator[None]:
        try:
            yield
        except ValidationError as error:
            faults = [f"{prefix}{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()]
            raise StackError(f"{self.path.name}: {'; '.join(faults)}") from error


def read_serve_config(path: Path, port: int | None, host: str | None = None) -> ServeConfig:
    """Read the file; `port` and `host` override those it names.

    Raises:
        StackError: no such file, or it is not YAML of the right shape.
    """
    try:
        content = yaml.safe_load(path.read_text())
    except OSError as error:
        raise StackError(f"{path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise StackError(f"{path.name} is not valid YAML: {error}") from error
    if not isinstance(content, dict) or not isinstance(content.get("http_options", {}), dict):
        raise StackError(f"{path.name} must hold a mapping with `http_options` and `applications`")
    options = content.get("http_options", {})
    chosen = port or options.get("port", DEFAULT_PORT)
    address = host or options.get("host", "127.0.0.1")
    if not isinstance(chosen, int) or not isinstance(address, str):
        raise StackError(f"{path.name}: http_options.port must be a number and http_options.host a name")
    content["http_options"] = options | {"host": address, "port": chosen}
    try:
        json.dumps(content)
    except TypeError as error:
        raise StackError(f"{path.name} must hold nothing that JSON cannot: {error}") from error
    return ServeConfig(path, content, address, chosen)


def check_serve_config(config: ServeConfig) -> None:
    """Validate it in a process of its own, so that the supervisor stays small.

    Raises:
        StackError: a key is unknown or a value is wrong.
    """
    command = [sys.executable, "-m", "compute.stack.cluster.serve_config", str(config.path)]
    checked = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603
    if checked.returncode:
        raise StackError(cause(checked.stderr) or f"{config.path.name} could not be checked")


def main() -> None:
    """Exit with the one line that says what is wrong with the file, if anything is."""
    try:
        read_serve_config(Path(sys.argv[1]), None).validated()
    except StackError as error:
        sys.exit(str(error))


def _unknown_keys(model: type[BaseModel], value: Any, trail: tuple[str, ...]) -> Iterator[str]:
    """Dotted paths of the keys that no field of `model` takes."""
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from _unknown_keys(model, item, (*trail, str(index)))
    elif isinstance(value, dict):
        names = {field.alias or name: field.annotation for name, field in model.model_fields.items()}
        for key, inner in value.items():
            if key not in names:
                yield ".".join((*trail, str(key)))
            elif nested := _nested_model(names[key]):
                yield from _unknown_keys(nested, inner, (*trail, str(key)))


def _nested_model(annotation: Any) -> type[BaseModel] | None:
    """Return the model inside `Model`, `list[Model]` or `Model | None`; None for anything else, such as free
    mappings."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    origin_arguments = getattr(annotation, "__args__", ())
    if dict in (annotation, getattr(annotation, "__origin__", None)):
        return None
    models = [nested for argument in origin_arguments if (nested := _nested_model(argument))]
    return models[0] if len(models) == 1 else None


if __name__ == "__main__":
    main()
