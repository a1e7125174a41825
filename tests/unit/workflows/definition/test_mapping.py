"""Values on their way from one step to another."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from pydantic import ValidationError

from compute.errors import InvalidInput, NotFound
from compute.schemas.enums import TransformType
from compute.schemas.workflows import Condition, FieldMapping
from compute.storage.together import AT_ONCE
from compute.workflows.definition.mapping import MISSING, bodies, find, holds, look_up, mapped_values
from tests.patience import PATIENCE
from tests.unit.workflows.definitions import field_mapping

RESULT = {
    "result_image_path": "a.png",
    "result_image_paths": ["a.png", "b.png"],
    "outputs": [{"path": "a.png", "seed": 7}, {"path": "b.png", "seed": 8}],
    "metadata": {"model": {"name": "painter"}, "zero": 0, "nothing": None, "no": False},
    "prompt": "ein grüner Rock",
    "seed": 7,
}
RESULTS: dict[str, dict[str, Any] | None] = {
    "draw": RESULT,
    "skipped": None,
    "$input": {"result_image_url": "https://example.com/mine.png", "prompts": ["a", "b"]},
}


class StoredFiles:
    """A store that has every file but gone.png."""

    async def link(self, path: str) -> str:
        return f"https://files/{path}"

    async def base64(self, path: str) -> str:
        if path == "gone.png":
            raise NotFound("There is no gone.png.")
        return f"base64 of {path}"


class FarFiles(StoredFiles):
    """Answers when as many are asked for as may be at once: whoever asks in turn waits for ever."""

    def __init__(self) -> None:
        self._asking = asyncio.Barrier(AT_ONCE)

    async def base64(self, path: str) -> str:
        await self._asking.wait()
        return await super().base64(path)


async def mapped(*mappings: FieldMapping, **values: Any) -> dict[str, Any]:
    return await mapped_values(mappings, {**RESULTS, "own": values}, StoredFiles())


async def transformed(value: Any, transform: str, index: int | None = None) -> Any:
    return (await mapped(field_mapping("own", "value", transform=transform, index=index), value=value))["prompt"]


# --- paths -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("seed", 7),
        ("metadata.model.name", "painter"),
        ("result_image_paths.1", "b.png"),
        ("outputs.1.seed", 8),
        ("metadata.zero", 0),
        ("metadata.no", False),
    ],
)
def test_a_dotted_path_leads_into_objects_and_lists(path: str, value: Any) -> None:
    assert find(RESULTS, "draw", path) == value


@pytest.mark.parametrize(
    "path",
    [
        "absent",
        "metadata.nothing",
        "metadata.model.name.first",
        "prompt.0",
        "seed.0",
        "result_image_paths.2",
        "result_image_paths.-1",
        "result_image_paths.first",
        "outputs.5.seed",
    ],
)
def test_where_a_path_leads_nowhere_or_to_null_there_is_no_value(path: str) -> None:
    assert find(RESULTS, "draw", path) is MISSING


@pytest.mark.parametrize("name", ["skipped", "unheard of"])
def test_a_step_without_a_result_has_no_values(name: str) -> None:
    assert find(RESULTS, name, "seed") is MISSING


# --- transforms ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("transform", "index", "value", "result"),
    [
        ("FIRST", None, ["a", "b"], "a"),
        ("LAST", None, ["a", "b"], "b"),
        ("INDEX", 0, ["a", "b"], "a"),
        ("INDEX", 1, ["a", "b"], "b"),
        ("INDEX", -2, ["a", "b"], "a"),
        ("LIST", None, "a", ["a"]),
        ("LIST", None, ["a"], ["a"]),
        ("LIST", None, [], []),
        ("URL", None, "a.png", "https://files/a.png"),
        ("URL", None, ["a.png", "b.png"], ["https://files/a.png", "https://files/b.png"]),
        ("BASE64", None, "a.png", "base64 of a.png"),
        ("BASE64", None, ["a.png"], ["base64 of a.png"]),
        ("STRING", None, "as it is", "as it is"),
        ("STRING", None, 7, "7"),
        ("STRING", None, True, "true"),
        ("STRING", None, {"a": "ü"}, '{"a": "ü"}'),
        ("STRING", None, [1, "b"], ["1", "b"]),
        ("JSON", None, "a", '"a"'),
        ("JSON", None, [1, {"a": "ü"}], '[1, {"a": "ü"}]'),
    ],
)
async def test_each_transform_makes_what_its_name_says(
    transform: str, index: int | None, value: Any, result: Any
) -> None:
    assert await transformed(value, transform, index) == result


@pytest.mark.parametrize(
    ("transform", "index", "value", "message"),
    [
        ("FIRST", None, "text", "no list"),
        ("FIRST", None, [], "no element 0"),
        ("LAST", None, {"a": 1}, "no list"),
        ("LAST", None, [], "no element -1"),
        ("INDEX", 2, ["a", "b"], "no element 2, only 2"),
        ("INDEX", -3, ["a", "b"], "no element -3"),
        ("URL", None, 7, "storage path"),
        ("URL", None, ["a.png", None], "storage path"),
        ("BASE64", None, {"path": "a.png"}, "storage path"),
    ],
)
async def test_a_transform_that_cannot_be_applied_names_source_and_target(
    transform: str, index: int | None, value: Any, message: str
) -> None:
    with pytest.raises(InvalidInput, match=message) as refused:
        await transformed(value, transform, index)
    assert refused.value.field == "prompt"
    assert refused.value.detail.startswith("Field `value` of `own` cannot be taken: ")


async def test_a_file_that_is_gone_is_said_to_be_gone() -> None:
    with pytest.raises(InvalidInput, match=r"gone\.png"):
        await transformed("gone.png", "BASE64")


@pytest.mark.parametrize("wrong", [{"transform": "INDEX"}, {"index": 0}, {"transform": "FIRST", "index": 0}])
def test_an_index_and_the_transform_index_go_together(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="go together"):
        field_mapping("draw", "result_image_paths", **wrong)


def test_every_transform_is_among_those_tested_here() -> None:
    assert set(TransformType) == {"FIRST", "LAST", "LIST", "INDEX", "URL", "BASE64", "STRING", "JSON"}


async def test_null_in_a_list_is_no_value_either() -> None:
    first, second = field_mapping("own", "several", transform="FIRST"), field_mapping("own", "other")
    assert await mapped(first, second, several=[None, "a"], other="b") == {"prompt": "b"}


# --- links -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "stored"),
    [
        ("result_image_url", "result_image_path"),
        ("result_image_urls", "result_image_paths"),
        ("result_video_url", "result_video_path"),
    ],
)
def test_of_links_which_expire_the_path_is_what_is_stored(name: str, stored: str) -> None:
    assert look_up({"draw": {stored: "a"}}, "draw", name) == ("a", True)


@pytest.mark.parametrize("name", ["result_image_path", "base_image_url", "result_urls_count", "metadata"])
def test_other_fields_are_stored_under_their_names(name: str) -> None:
    assert look_up({"draw": {name: "a"}}, "draw", name) == ("a", False)


async def test_links_are_made_when_they_are_handed_on() -> None:
    urls = ["https://files/a.png", "https://files/b.png"]
    assert await mapped(field_mapping("draw", "result_image_url")) == {"prompt": urls[0]}
    assert await mapped(field_mapping("draw", "result_image_urls")) == {"prompt": urls}
    assert await mapped(field_mapping("draw", "result_image_urls", transform="LAST")) == {"prompt": urls[1]}


async def test_what_the_caller_calls_a_link_stays_as_it_is() -> None:
    given = field_mapping("$input", "result_image_url")
    assert await mapped(given) == {"prompt": "https://example.com/mine.png"}


async def test_a_path_leads_into_the_list_of_links() -> None:
    assert await mapped(field_mapping("draw", "result_image_urls.1")) == {"prompt": "https://files/b.png"}


@pytest.mark.parametrize(("transform", "result"), [("BASE64", "base64 of a.png"), ("URL", "https://files/a.png")])
async def test_a_link_can_be_turned_into_what_its_file_can(transform: str, result: str) -> None:
    assert await mapped(field_mapping("draw", "result_image_url", transform=transform)) == {"prompt": result}


# --- several mappings ------------------------------------------------------------------------------------------------


async def test_of_two_mappings_to_one_field_the_first_that_has_a_value_counts() -> None:
    skipped, drawn = field_mapping("skipped", "prompt"), field_mapping("draw", "prompt")
    own = field_mapping("own", "text")
    assert await mapped(skipped, drawn, own, text="mine") == {"prompt": RESULT["prompt"]}
    assert await mapped(own, drawn, text="mine") == {"prompt": "mine"}


async def test_a_field_for_which_there_is_no_value_is_left_out() -> None:
    assert await mapped(field_mapping("skipped", "prompt"), field_mapping("draw", "seed", "seed")) == {"seed": 7}


async def test_false_zero_and_empty_are_values() -> None:
    mappings = [field_mapping("own", name, name) for name in ("no", "zero", "text", "many")]
    values = {"no": False, "zero": 0, "text": "", "many": []}
    assert await mapped(*mappings, **values) == values


# --- bodies ----------------------------------------------------------------------------------------------------------


def dealt(values: dict[str, Any], *spread: str) -> Sequence[dict[str, Any]]:
    return bodies({"steps": 2}, values, frozenset(spread))


def test_without_a_list_to_deal_there_is_one_task() -> None:
    assert dealt({"prompt": "a"}) == [{"steps": 2, "prompt": "a"}]
    assert dealt({"images": ["a", "b"]}) == [{"steps": 2, "images": ["a", "b"]}]


def test_mapped_values_replace_those_of_the_configuration() -> None:
    assert dealt({"steps": 9}) == [{"steps": 9}]


def test_each_task_gets_its_element_and_all_of_the_rest() -> None:
    assert dealt({"prompt": ["a", "b"], "seed": [1, 2], "width": 64}, "prompt", "seed") == [
        {"steps": 2, "prompt": "a", "seed": 1, "width": 64},
        {"steps": 2, "prompt": "b", "seed": 2, "width": 64},
    ]


def test_a_field_to_deal_that_has_no_value_is_left_to_its_default() -> None:
    assert dealt({"prompt": ["a", "b"]}, "prompt", "seed") == [
        {"steps": 2, "prompt": "a"},
        {"steps": 2, "prompt": "b"},
    ]
    assert dealt({}, "seed") == [{"steps": 2}]


def test_an_empty_list_makes_no_task() -> None:
    assert dealt({"prompt": []}, "prompt") == []


@pytest.mark.parametrize("seeds", [[1], [1, 2, 3], []])
def test_lists_of_different_lengths_are_refused_and_the_field_is_named(seeds: list[int]) -> None:
    with pytest.raises(InvalidInput, match=f"2 elements of prompt, {len(seeds)} of seed") as refused:
        dealt({"prompt": ["a", "b"], "seed": seeds}, "prompt", "seed")
    assert refused.value.field == "seed"


@pytest.mark.parametrize("value", ["text", 7, {"a": 1}])
def test_what_is_no_list_goes_to_all_tasks(value: Any) -> None:
    """Another mapping to the field would have given a list."""
    assert dealt({"prompt": value}, "prompt") == [{"steps": 2, "prompt": value}]
    assert [body["prompt"] for body in dealt({"prompt": value, "seed": [1, 2]}, "prompt", "seed")] == [value] * 2


def test_a_step_has_at_most_a_thousand_tasks() -> None:
    assert len(dealt({"seed": [0] * 1000}, "seed")) == 1000
    with pytest.raises(InvalidInput, match=r"at most 1000 tasks.*1001") as refused:
        dealt({"seed": [0] * 1001}, "seed")
    assert refused.value.field == "seed"


# --- conditions ------------------------------------------------------------------------------------------------------


def condition(field: str, op: str, value: Any = None, source: str = "draw") -> Condition:
    return Condition.model_validate({"from_step": source, "from_field": field, "op": op, "value": value})


@pytest.mark.parametrize(
    ("op", "holding", "failing"),
    [
        ("eq", [7, 7.0], [8, "7"]),
        ("ne", [8, "7"], [7]),
        ("gt", [6, 6.9], [7, 8]),
        ("ge", [6, 7], [8]),
        ("lt", [8], [7, 6]),
        ("le", [8, 7], [6]),
        ("in", [[1, 7]], [[], [1, "7"]]),
        ("exists", [None, True, 0], [False]),
    ],
)
def test_each_comparison_holds_where_it_should(op: str, holding: list[Any], failing: list[Any]) -> None:
    assert all(holds(condition("seed", op, value), RESULTS) for value in holding)
    assert not any(holds(condition("seed", op, value), RESULTS) for value in failing)


def test_what_a_condition_says_by_default_is_equality() -> None:
    assert holds(Condition(from_step="draw", from_field="seed", value=7), RESULTS)


@pytest.mark.parametrize("op", ["eq", "ne", "gt", "ge", "lt", "le"])
@pytest.mark.parametrize("source", ["draw", "skipped"])
def test_without_a_value_no_comparison_holds(op: str, source: str) -> None:
    assert not holds(condition("absent", op, 7, source), RESULTS)
    assert not holds(condition("absent", op, None, source), RESULTS)
    assert not holds(condition("absent", "in", [None], source), RESULTS)


def test_only_its_absence_holds_of_what_does_not_exist() -> None:
    assert not holds(condition("absent", "exists"), RESULTS)
    assert holds(condition("absent", "exists", False), RESULTS)
    assert holds(condition("metadata.nothing", "exists", False), RESULTS)


@pytest.mark.parametrize(("op", "value"), [("gt", "6"), ("le", None), ("lt", [7]), ("ge", {})])
def test_what_cannot_be_compared_is_an_error_of_the_condition(op: str, value: Any) -> None:
    with pytest.raises(InvalidInput, match="cannot be compared") as refused:
        holds(condition("seed", op, value), RESULTS)
    assert refused.value.field == "when"


def test_a_condition_may_ask_for_a_link_that_is_stored_as_a_path() -> None:
    assert holds(condition("result_image_url", "exists"), RESULTS)
    assert not holds(condition("result_video_url", "exists"), RESULTS)


def test_a_condition_reads_the_input_as_a_mapping_does() -> None:
    assert holds(condition("result_image_url", "exists", source="$input"), RESULTS)


async def test_files_of_a_long_list_are_read_together_and_stay_in_order() -> None:
    paths = [f"{index}.png" for index in range(2 * AT_ONCE)]
    mapping = field_mapping("own", "value", transform="BASE64")
    async with asyncio.timeout(PATIENCE):
        found = await mapped_values([mapping], {"own": {"value": paths}}, FarFiles())
    assert found["prompt"] == [f"base64 of {path}" for path in paths]
