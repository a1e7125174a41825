"""serve_config.yaml: the port it names, and keys that would silently do nothing."""

from pathlib import Path

import pytest
import yaml

from compute.stack.cluster.serve_config import read_serve_config
from compute.stack.errors import StackError

OURS = Path(__file__).parents[4] / "serve_config.yaml"


def written(tmp_path: Path, content: object) -> Path:
    path = tmp_path / "serve_config.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


def changed(tmp_path: Path, old: str, new: str) -> Path:
    text = OURS.read_text()
    assert old in text
    return written(tmp_path, text.replace(old, new, 1))


def test_our_own_file_is_valid_and_listens_where_it_says() -> None:
    config = read_serve_config(OURS, None)
    assert config.url == "http://127.0.0.1:8000"
    schema = config.validated()
    assert schema.http_options.port == 8000
    assert [application.import_path for application in schema.applications] == ["compute.deployments.app:build"]


def test_the_port_can_be_overridden() -> None:
    config = read_serve_config(OURS, 8123)
    assert config.url == "http://127.0.0.1:8123"
    assert config.validated().http_options.port == 8123


def test_defaults_without_http_options(tmp_path: Path) -> None:
    config = read_serve_config(written(tmp_path, {"applications": []}), None)
    assert (config.host, config.port) == ("127.0.0.1", 8000)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("http_options:", "http_option:", "unknown key 'http_option'"),
        ("  port: 8000", "  prot: 8000", "unknown key 'http_options.prot'"),
        ("route_prefix:", "route_prefx:", "unknown key 'applications.0.route_prefx'"),
        (
            "reserved_tasks:",
            "reserve_tasks:",
            "applications.0.args.pools.0.reserve_tasks: Extra inputs are not permitted",
        ),
        ("family: flux", "familly: flux", "applications.0.args.pools.0.model.familly: Extra inputs are not permitted"),
    ],
)
def test_a_wrong_key_is_named_with_its_place(tmp_path: Path, old: str, new: str, said: str) -> None:
    with pytest.raises(StackError) as caught:
        read_serve_config(changed(tmp_path, old, new), None).validated()
    assert str(caught.value) == f"serve_config.yaml: {said}"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a: [1,\nb: 2", r"^serve_config\.yaml is not valid YAML: .*line 2"),
        ("- 1\n- 2", r"must hold a mapping"),
        ("http_options: 8000", r"must hold a mapping"),
        ({"http_options": {"port": "eighty"}}, r"http_options\.port must be a number"),
    ],
)
def test_a_file_of_the_wrong_shape_is_one_line(tmp_path: Path, content: object, said: str) -> None:
    with pytest.raises(StackError, match=said) as caught:
        read_serve_config(written(tmp_path, content), None)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(StackError, match=r"serve_config\.yaml cannot be read: No such file"):
        read_serve_config(tmp_path / "serve_config.yaml", None)
