import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compute.schemas.training import CaptioningStrategy
from compute.training.dataset.captions import (
    DAMAGED,
    MAX_CAPTION,
    caption_for,
    clean_caption,
    read_metadata,
    words_of_name,
)


def caption(file: str = "a.png", text: str | None = None, trigger: str = "zorb dress") -> str:
    return caption_for(CaptioningStrategy.FILENAME, trigger_word=trigger, file=file, text=text)


def test_trigger_only_says_nothing_else() -> None:
    strategy = CaptioningStrategy.TRIGGER_ONLY
    assert caption_for(strategy, trigger_word=" zorb  dress ", file="red.png", text="a red dress") == "zorb dress"


def test_text_beside_the_file_wins_over_its_name() -> None:
    assert caption("blue_coat.png", "on a table") == "zorb dress, on a table"


def test_the_trigger_word_is_not_said_twice() -> None:
    assert caption(text="a Zorb Dress on a table") == "a Zorb Dress on a table"
    assert caption(text="a zorb dresser") == "zorb dress, a zorb dresser"
    assert caption(text="a c++ (dress)", trigger="c++") == "a c++ (dress)"


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("looks/red_dress-02.png", "red dress"),
        ("red dress (3).jpg", "red dress"),
        ("dress01.png", "dress"),
        ("kleid_grün.v2.webp", "kleid grün v"),
        ("IMG_20240101_120000.jpg", ""),
        ("DSC0001.JPG", ""),
        ("00017.png", ""),
        ("3f2a9c1b.png", ""),
        ("Screenshot 2024-05-01 red coat.png", "red coat"),
    ],
)
def test_words_of_names(file: str, words: str) -> None:
    assert words_of_name(file) == words


def test_a_name_without_words_leaves_the_trigger_word() -> None:
    assert caption("IMG_0001.png") == "zorb dress"
    assert caption("IMG_0001.png", " \n ") == "zorb dress"


def test_a_vision_model_says_what_is_seen_and_the_name_stands_in_for_it() -> None:
    strategy = CaptioningStrategy.VISION
    said = caption_for(strategy, trigger_word="zorb", file="red_dress.png", text="A red dress\non a rack.")
    assert said == "zorb, A red dress on a rack."
    assert caption_for(strategy, trigger_word="zorb", file="red_dress.png") == "zorb, red dress"


def test_what_is_no_text_is_left_out() -> None:
    assert clean_caption("red\x00 dress\x1b[31m\r\n\tlong") == "red dress[31m long"
    assert clean_caption("\ud83d alone") == "alone"
    assert clean_caption("one\u2028two\u2029three\x85four") == "one two three four"
    assert clean_caption("gru\u0308n") == "grün"


def test_emoji_of_several_parts_stay_whole() -> None:
    family = "\U0001f468\u200d\U0001f469\u200d\U0001f467"
    assert clean_caption(family) == family


def test_endless_captions_are_cut() -> None:
    assert len(caption(text="word " * 1000)) <= MAX_CAPTION
    assert caption(text="word " * 1000).startswith("zorb dress, word")


@given(st.text(st.characters()))
def test_any_input_becomes_one_storable_line(text: str) -> None:
    cleaned = clean_caption(text)
    assert "\0" not in cleaned
    assert len(cleaned.encode()) >= len(cleaned)
    assert len(cleaned.splitlines()) <= 1
    assert cleaned == cleaned.strip()
    assert len(cleaned) <= MAX_CAPTION


@given(st.lists(st.tuples(st.text(min_size=1), st.text())))
def test_metadata_comes_back_as_it_was_written(rows: list[tuple[str, str]]) -> None:
    lines = (json.dumps({"file_name": file, "text": text}, ensure_ascii=False) for file, text in rows)
    data = "\n".join(lines).encode()
    read = read_metadata(data, name="metadata.jsonl", most=1000)
    assert read[0] == [(file, clean_caption(text)) for file, text in rows if DAMAGED not in text]
    assert len(read[1]) == min(sum(DAMAGED in text for _, text in rows), 51)


def test_other_names_for_the_caption_in_metadata() -> None:
    data = b'{"file_name": "a.png", "caption": "one"}\r\n{"file_name": "b.png", "prompt": "two", "text": "three"}'
    assert read_metadata(data, name="m", most=9) == ([("a.png", "one"), ("b.png", "three")], [])
