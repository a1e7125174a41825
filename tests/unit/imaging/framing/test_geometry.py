"""The geometry of IMAGE_ADJUSTER: what it promises holds for every picture."""

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from compute.errors import InvalidInput
from compute.imaging.framing.geometry import FramePlan, Framing, Margins, Mode, Size, Subject, aspect_difference, plan

# A busy machine is no failure.
usual = settings(max_examples=60)
thorough = settings(max_examples=200)

sides = st.integers(1, 400)
sizes = st.tuples(sides, sides)
ratios = st.floats(0.2, 5)
shares = st.one_of(st.none(), st.floats(0, 0.45))
all_margins = st.builds(Margins, shares, shares, shares, shares)
targets = st.one_of(
    st.fixed_dictionaries({"aspect_ratio": ratios}), st.fixed_dictionaries({"size": sizes}), st.just({})
)
modes = st.sampled_from(["auto", "crop", "pad"])


@st.composite
def pictures(draw: st.DrawFn) -> tuple[Size, Subject]:
    """A size of at least 20 pixels a side and a subject in it."""
    width, height = draw(st.integers(20, 400)), draw(st.integers(20, 400))
    left, top = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    return (width, height), (left, top, draw(st.integers(left + 1, width)), draw(st.integers(top + 1, height)))


def crop(picture: Size, **asked: object) -> FramePlan:
    return plan(picture, Framing(mode="crop", **asked))  # type: ignore[arg-type]


def subject_in(result: FramePlan, subject: Subject) -> Subject:
    """Where the subject lies in the result."""
    across = (result.destination[2] - result.destination[0]) / (result.source[2] - result.source[0])
    down = (result.destination[3] - result.destination[1]) / (result.source[3] - result.source[1])
    return (
        result.destination[0] + (subject[0] - result.source[0]) * across,
        result.destination[1] + (subject[1] - result.source[1]) * down,
        result.destination[0] + (subject[2] - result.source[0]) * across,
        result.destination[1] + (subject[3] - result.source[1]) * down,
    )


def missing(result: FramePlan, subject: Subject, margins: Margins) -> float:
    """By how many pixels of the result the worst margin is missed."""
    left, top, right, bottom = subject_in(result, subject)
    width, height = result.size
    return max(
        (margins.left or 0) * width - left,
        (margins.top or 0) * height - top,
        (margins.right or 0) * width - (width - right),
        (margins.bottom or 0) * height - (height - bottom),
    )


@pytest.mark.parametrize(
    ("mode", "asked", "expected"),
    [
        ("crop", {"aspect_ratio": 1}, FramePlan((100, 100), (50, 0, 150, 100), (0, 0, 100, 100))),
        ("pad", {"aspect_ratio": 1}, FramePlan((200, 200), (0, 0, 200, 100), (0, 50, 200, 150))),
        ("crop", {"size": (50, 50)}, FramePlan((50, 50), (50, 0, 150, 100), (0, 0, 50, 50))),
        ("pad", {"size": (50, 50)}, FramePlan((50, 50), (0, 0, 200, 100), (0, 12, 50, 38))),
        ("scale", {"size": (50, 50)}, FramePlan((50, 50), (0, 0, 200, 100), (0, 0, 50, 50))),
        ("auto", {"aspect_ratio": 1}, FramePlan((200, 200), (0, 0, 200, 100), (0, 50, 200, 150))),
        ("auto", {"aspect_ratio": 1.92}, FramePlan((192, 100), (4, 0, 196, 100), (0, 0, 192, 100))),
        ("auto", {"aspect_ratio": 2}, FramePlan((200, 100), (0, 0, 200, 100), (0, 0, 200, 100))),
    ],
)
def test_a_picture_of_200_x_100(mode: Mode, asked: dict[str, object], expected: FramePlan) -> None:
    assert plan((200, 100), Framing(mode=mode, **asked)) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(("ratio", "crops"), [(2.1, True), (2.11, False), (2 / 1.05, True), (1.9, False)])
def test_auto_crops_up_to_five_percent_and_pads_above(ratio: float, crops: bool) -> None:
    result = plan((2000, 1000), Framing(aspect_ratio=ratio))
    assert result.pads is not crops
    assert (result.size[0] < 2000 or result.size[1] < 1000) is crops


@pytest.mark.parametrize(
    ("position", "left"), [((0.0, 0.0), 0), ((0.5, 0.5), 50), ((1.0, 1.0), 100)], ids=["left", "center", "right"]
)
def test_the_position_says_where_a_crop_lies(position: tuple[float, float], left: int) -> None:
    assert crop((200, 100), aspect_ratio=1, position=position).source == (left, 0, left + 100, 100)


@usual
@given(size=sizes, mode=modes, target=sizes)
def test_the_result_has_exactly_the_asked_size(size: Size, mode: Mode, target: Size) -> None:
    assert plan(size, Framing(mode=mode, size=target)).size == target


@usual
@given(size=sizes, mode=modes, ratio=ratios)
def test_the_result_has_the_asked_ratio_within_a_pixel(size: Size, mode: Mode, ratio: float) -> None:
    width, height = plan(size, Framing(mode=mode, aspect_ratio=ratio)).size
    assert abs(width - height * ratio) <= 1 or abs(height - width / ratio) <= 1


@usual
@given(size=sizes, asked=targets, across=st.sampled_from([0, 0.5, 1]), down=st.sampled_from([0, 0.5, 1]))
def test_a_crop_stays_inside_and_fills_the_result(
    size: Size, asked: dict[str, object], across: float, down: float
) -> None:
    result = crop(size, position=(across, down), **asked)
    left, top, right, bottom = result.source
    assert 0 <= left < right <= size[0]
    assert 0 <= top < bottom <= size[1]
    assert not result.pads


@usual
@given(size=sizes, asked=targets)
def test_padding_keeps_the_whole_picture_and_stays_in_the_result(size: Size, asked: dict[str, object]) -> None:
    result = plan(size, Framing(mode="pad", **asked))  # type: ignore[arg-type]
    assert result.source == (0, 0, *size)
    left, top, right, bottom = result.destination
    assert 0 <= left < right <= result.size[0]
    assert 0 <= top < bottom <= result.size[1]


@usual
@given(size=sizes, mode=modes, ratio=ratios)
def test_without_a_target_size_pixels_are_copied(size: Size, mode: Mode, ratio: float) -> None:
    assert not plan(size, Framing(mode=mode, aspect_ratio=ratio)).resamples


@thorough
@given(picture=pictures(), mode=modes, margins=all_margins, ratio=st.one_of(st.none(), ratios))
def test_margins_are_kept_within_a_pixel(
    picture: tuple[Size, Subject], mode: Mode, margins: Margins, ratio: float | None
) -> None:
    size, subject = picture
    framing = Framing(mode=mode, margins=margins, aspect_ratio=ratio)
    try:
        result = plan(size, framing, subject)
    except InvalidInput:
        assert mode == "crop"
        return
    # A pixel for the frame's place, one for its length.
    assert missing(result, subject, margins) <= 2 + 1e-6
    if mode == "pad":
        assert result.source == (0, 0, *size)


@usual
@given(picture=pictures(), margins=all_margins, target=st.tuples(st.integers(50, 300), st.integers(50, 300)))
def test_margins_hold_at_a_target_size_too(picture: tuple[Size, Subject], margins: Margins, target: Size) -> None:
    size, subject = picture
    result = plan(size, Framing(mode="pad", margins=margins, size=target), subject)
    across = (result.destination[2] - result.destination[0]) / (result.source[2] - result.source[0])
    down = (result.destination[3] - result.destination[1]) / (result.source[3] - result.source[1])
    assert result.size == target
    # Two pixels of the picture, which may be many of the result, and the rounding of its place.
    assert missing(result, subject, margins) <= 2 + 2 * max(across, down)


@thorough
@given(picture=pictures(), mode=modes, asked=targets, margins=st.one_of(st.none(), all_margins))
def test_doing_it_again_changes_nothing(
    picture: tuple[Size, Subject], mode: Mode, asked: dict[str, object], margins: Margins | None
) -> None:
    size, subject = picture
    framing = Framing(mode=mode, margins=margins, **asked)  # type: ignore[arg-type]
    try:
        result = plan(size, framing, subject)
    except InvalidInput:
        assume(False)
    # What rounding costs at most is not put right by another rounding.
    assume(margins is None or missing(result, subject, margins) <= 1)
    assert not plan(result.size, framing, subject_in(result, subject)).changes(result.size)


@usual
@given(size=sizes, mode=modes, asked=targets)
def test_a_mirrored_picture_gives_a_mirrored_result(size: Size, mode: Mode, asked: dict[str, object]) -> None:
    """It is symmetrical about the middle, so it must be its own mirror image, within the pixel that is odd."""
    result = plan(size, Framing(mode=mode, **asked))  # type: ignore[arg-type]
    assert abs(result.source[0] - (size[0] - result.source[2])) <= 1
    assert abs(result.destination[0] - (result.size[0] - result.destination[2])) <= 1


@thorough
@given(picture=pictures(), mode=modes, margins=all_margins, ratio=ratios)
def test_a_mirrored_subject_gives_a_mirrored_result(
    picture: tuple[Size, Subject], mode: Mode, margins: Margins, ratio: float
) -> None:
    (width, height), (left, top, right, bottom) = picture
    mirrored = Margins(margins.right, margins.top, margins.left, margins.bottom)
    try:
        one = plan((width, height), Framing(mode, ratio, margins=margins), (left, top, right, bottom))
    except InvalidInput:
        with pytest.raises(InvalidInput):
            plan((width, height), Framing(mode, ratio, margins=mirrored), (width - right, top, width - left, bottom))
        return
    other = plan((width, height), Framing(mode, ratio, margins=mirrored), (width - right, top, width - left, bottom))
    assert one.size == other.size
    assert abs(one.destination[0] - (other.size[0] - other.destination[2])) <= 1
    assert abs(one.source[0] - (width - other.source[2])) <= 1


@usual
@given(size=sizes, asked=targets, tolerance=st.floats(0, 1), mode=modes)
def test_within_the_tolerance_nothing_changes(
    size: Size, asked: dict[str, object], tolerance: float, mode: Mode
) -> None:
    framing = Framing(mode=mode, tolerance=tolerance, **asked)  # type: ignore[arg-type]
    target = asked.get("size")
    if isinstance(target, tuple):
        close = all(abs(have / want - 1) <= tolerance for have, want in zip(size, target, strict=True))
    else:
        ratio = framing.ratio
        close = ratio is None or aspect_difference(size[0] / size[1], ratio) <= tolerance
    if close:
        assert not plan(size, framing).changes(size)


@pytest.mark.parametrize(("tolerance", "changes"), [(0, True), (0.05, True), (0.11, False)])
def test_the_tolerance_holds_for_margins(tolerance: float, changes: bool) -> None:
    framing = Framing(mode="pad", margins=Margins(top=0.2), tolerance=tolerance)
    assert plan((100, 100), framing, (10, 10, 90, 90)).changes((100, 100)) is changes


def test_without_a_ratio_padding_grows_only_where_a_margin_is_missing() -> None:
    result = plan((100, 100), Framing(mode="pad", margins=Margins(top=0.2, left=0.05)), (10, 10, 90, 90))
    assert result.destination == (0, 13, 100, 113)
    assert result.size == (100, 113)


def test_a_crop_grows_a_margin_by_cutting_the_other_side() -> None:
    result = crop_with_margin(0.5)
    assert result.size == (40, 100)
    assert result.source == (0, 0, 40, 100)


def crop_with_margin(share: float) -> FramePlan:
    return plan((100, 100), Framing(mode="crop", margins=Margins(left=share)), (20, 10, 40, 90))


def test_a_crop_that_cannot_leave_the_margins_is_refused() -> None:
    with pytest.raises(InvalidInput, match="No crop") as caught:
        crop_with_margin(0.6)
    assert caught.value.field == "mode"


def test_auto_pads_when_no_crop_leaves_the_margins() -> None:
    framing = Framing(aspect_ratio=1.03, margins=Margins(top=0.3))
    result = plan((100, 100), framing, (20, 10, 80, 90))
    assert result.pads
    assert missing(result, (20, 10, 80, 90), Margins(top=0.3)) <= 1


@thorough
@given(picture=pictures(), top=st.floats(0, 0.4), bottom=st.floats(0, 0.4), target=st.one_of(st.none(), sizes))
def test_scaling_by_height_meets_the_vertical_margins(
    picture: tuple[Size, Subject], top: float, bottom: float, target: Size | None
) -> None:
    size, subject = picture
    margins = Margins(top=top, bottom=bottom)
    result = plan(size, Framing("scale", size=target, margins=margins, proportions="height"), subject)
    assert result.size == (target or size)
    assume(result.destination[2] - result.destination[0] > 1 and result.destination[3] - result.destination[1] > 1)
    scale = (result.destination[3] - result.destination[1]) / (result.source[3] - result.source[1])
    _, first, _, last = subject_in(result, subject)
    # The place of the picture is rounded to whole pixels of the result, and a pixel of the picture may be many.
    slack = 2 + scale
    assert abs(first - top * result.size[1]) <= slack
    assert abs(result.size[1] - last - bottom * result.size[1]) <= slack


def test_scaling_by_height_crops_a_wide_picture_around_its_subject() -> None:
    framing = Framing("scale", size=(100, 100), margins=Margins(top=0.1, bottom=0.1), proportions="height")
    result = plan((400, 200), framing, (200, 60, 280, 140))
    assert result == FramePlan((100, 100), (190, 50, 290, 150), (0, 0, 100, 100))


def test_scaling_by_height_pads_what_the_picture_does_not_have() -> None:
    framing = Framing("scale", margins=Margins(top=0.25, bottom=0.25), proportions="height")
    assert plan((100, 100), framing, (20, 0, 80, 100)) == FramePlan((100, 100), (0, 0, 100, 100), (25, 25, 75, 75))


def test_scaling_by_width_is_scaling_by_height_on_its_side() -> None:
    upright = Framing("scale", size=(60, 90), margins=Margins(top=0.1, bottom=0.2), proportions="height")
    lying = Framing("scale", size=(90, 60), margins=Margins(left=0.1, right=0.2), proportions="width")
    one = plan((120, 200), upright, (30, 50, 70, 150))
    other = plan((200, 120), lying, (50, 30, 150, 70))
    assert other.source == (one.source[1], one.source[0], one.source[3], one.source[2])
    assert other.destination == (one.destination[1], one.destination[0], one.destination[3], one.destination[2])


@usual
@given(size=sizes, target=sizes)
def test_stretching_shows_the_whole_picture(size: Size, target: Size) -> None:
    assert plan(size, Framing("scale", size=target)) == FramePlan(target, (0, 0, *size), (0, 0, *target))
