"""Images are refined tile by tile, and no tile that shows something else gets into the result."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from compute.errors import ProviderFailed
from compute.imaging.similarity import ssim
from compute.providers.editing.consistency import EditedPart, Limits, raise_if_all_refused, report
from compute.providers.editing.editor import ImageEditor
from compute.providers.editing.refiner import RefinePlan, refine_image
from compute.providers.editing.tiles import adaptive_resolution, grid_for
from compute.schemas.enums import ErrorCategory
from tests.providers.editing.benches import MemoryBench, ScriptedEditor, garbage, photo, sharper, tinted

PLAN = RefinePlan(adaptive=True, tiles=4, feather=16, limits=Limits(ssim=0.6), retries=1, workers=2, seed=7)


async def refine(tmp_path: Path, editor: ImageEditor, plan: RefinePlan = PLAN) -> tuple[np.ndarray, list[EditedPart]]:
    image, parts = await refine_image(MemoryBench(tmp_path), editor, photo(), plan)
    return np.asarray(image).astype(int), parts


@pytest.mark.parametrize(
    ("size", "tiles", "layout"),
    [
        ((1000, 1000), 4, (2, 2)),
        ((1500, 1000), 6, (3, 2)),
        ((1000, 4000), 4, (1, 4)),
        ((4000, 1000), 4, (4, 1)),
        ((1000, 1000), 1, (1, 1)),
        ((100, 100), 64, (1, 1)),
        ((1000, 1000), 9, (3, 3)),
    ],
)
def test_the_grid_follows_the_shape_of_the_image(size: tuple[int, int], tiles: int, layout: tuple[int, int]) -> None:
    grid = grid_for(size, tiles=tiles, feather=32)
    assert (len(grid.across.starts), len(grid.down.starts)) == layout
    assert (grid.across.padded, grid.down.padded) == size


@pytest.mark.parametrize("feather", [0, 5, 64, 512])
@pytest.mark.parametrize("size", [(384, 256), (641, 333), (70, 900)])
def test_the_weights_of_tiles_sum_to_one_everywhere(size: tuple[int, int], feather: int) -> None:
    grid = grid_for(size, tiles=6, feather=feather)
    total = np.zeros((size[1], size[0]))
    for tile in grid:
        total[tile.top : tile.top + tile.height, tile.left : tile.left + tile.width] += grid.weights(tile)
    assert np.abs(total - 1).max() < 1e-5


async def test_a_refined_image_is_sharper_and_still_the_same(tmp_path: Path) -> None:
    bench, editor = MemoryBench(tmp_path), ScriptedEditor()
    image, parts = await refine_image(bench, editor, photo(), PLAN)
    assert image.size == photo().size
    assert ssim(image, photo()) > 0.9
    assert np.asarray(image).std() != np.asarray(photo()).std()
    assert [part.accepted for part in parts] == [True] * 4
    assert editor.asked == [f"tile/{index}/try/1" for index in range(4)]
    assert bench.fractions == sorted(bench.fractions)
    assert bench.fractions[-1] == 1.0


async def test_a_tile_that_is_not_alike_is_tried_again_with_another_seed(tmp_path: Path) -> None:
    editor = ScriptedEditor(parts={"tile/2/try/1": garbage})
    _, parts = await refine(tmp_path, editor)
    seeds = [one.seed for one in editor.requests if one.part.startswith("tile/2")]
    assert len(set(seeds)) == 2
    assert (parts[2].tries, parts[2].accepted) == (2, True)
    assert len({one.seed for one in editor.requests}) == 5


async def test_a_tile_that_never_is_alike_keeps_its_pixels(tmp_path: Path) -> None:
    before = np.asarray(photo()).astype(int)
    after, parts = await refine(tmp_path, ScriptedEditor(parts={"tile/0": garbage}))
    assert (after[:90, :150] == before[:90, :150]).all()
    assert not (after[170:, 260:] == before[170:, 260:]).all()
    found = report(parts)
    assert (found["edits"], found["parts_unchanged"]) == (5, 1)
    assert [one["accepted"] for one in found["parts"]] == [False, True, True, True]
    assert found["parts"][0]["ssim"] < 0.6 < found["parts"][1]["ssim"]
    assert len(found["parts"][0]["ssims"]) == 2


async def test_thresholds_decide_what_is_alike(tmp_path: Path) -> None:
    off = replace(PLAN, limits=Limits())
    _, parts = await refine(tmp_path, ScriptedEditor(garbage), off)
    assert all(part.accepted for part in parts)
    strict = replace(PLAN, limits=Limits(ssim=0.9999))
    _, parts = await refine(tmp_path, ScriptedEditor(), strict)
    assert not any(part.accepted for part in parts)


async def test_retries_and_workers_are_limits(tmp_path: Path) -> None:
    editor = ScriptedEditor(garbage, together=2)
    await refine(tmp_path, editor, replace(PLAN, retries=0))
    assert (len(editor.requests), editor.most) == (4, 2)
    editor = ScriptedEditor(garbage, together=4)
    await refine(tmp_path, editor, replace(PLAN, retries=2, workers=None))
    assert (len(editor.requests), editor.most) == (12, 4)


@pytest.mark.parametrize("adaptive", [True, False])
async def test_colours_of_an_edit_are_corrected(tmp_path: Path, adaptive: bool) -> None:
    after, parts = await refine(tmp_path, ScriptedEditor(tinted), replace(PLAN, adaptive=adaptive))
    assert all(part.accepted for part in parts)
    assert np.abs(after - np.asarray(photo()).astype(int)).mean() < 12


async def test_the_second_version_edits_all_at_4k_and_leaves_faces(tmp_path: Path) -> None:
    editor = ScriptedEditor()
    await refine(tmp_path, editor)
    assert {one.resolution for one in editor.requests} == {"1K"}
    editor = ScriptedEditor()
    await refine(tmp_path, editor, replace(PLAN, adaptive=False))
    assert {one.resolution for one in editor.requests} == {"4K"}
    assert adaptive_resolution((1500, 900)) == "2K"
    assert adaptive_resolution((900, 2100)) == "4K"


async def test_without_feathering_tiles_meet_at_a_hard_edge(tmp_path: Path) -> None:
    plan = replace(PLAN, feather=0, limits=Limits(), adaptive=False)
    black = Image.new("RGB", (64, 64))

    def edit(image: Image.Image) -> Image.Image:
        return black

    hard, _ = await refine_image(MemoryBench(tmp_path), ScriptedEditor(edit, {"tile/1": sharper}), photo(), plan)
    soft, _ = await refine_image(
        MemoryBench(tmp_path), ScriptedEditor(edit, {"tile/1": sharper}), photo(), replace(plan, feather=40)
    )
    # The left tile has one value a channel; where it still is that value, nothing of its neighbour shows.
    flat = [np.asarray(one)[20, :, 0] for one in (hard, soft)]
    edges = [int(np.flatnonzero(row != row[0])[0]) for row in flat]
    assert edges[0] == 192
    assert edges[1] < 186


async def test_images_to_look_at_are_kept_by_name(tmp_path: Path) -> None:
    bench = MemoryBench(tmp_path)
    plan = replace(PLAN, keeps_images=True)
    _, parts = await refine_image(bench, ScriptedEditor(parts={"tile/1/try/1": garbage}), photo(), plan)
    found = report(parts)["debug_images"]
    assert {"tile-0-original", "tile-0-try-1", "tile-1-try-1", "tile-1-try-2"} <= set(found)
    assert found["tile-0-original"] == "kept/debug/tile-0-original.png"
    assert bench.kept["debug/tile-0-original"].size == bench.kept["debug/tile-0-try-1"].size
    assert "debug_images" not in report((await refine(tmp_path, ScriptedEditor()))[1])


async def test_an_error_waits_for_what_is_under_way(tmp_path: Path) -> None:
    editor = ScriptedEditor(parts={"tile/0": ProviderFailed("No.")})
    with pytest.raises(ProviderFailed, match="No"):
        await refine(tmp_path, editor, replace(PLAN, workers=None))
    assert len(editor.requests) == 4


async def test_refused_content_keeps_its_pixels_unless_all_is_refused(tmp_path: Path) -> None:
    refusal = ProviderFailed("Not this.", category=ErrorCategory.CONTENT_POLICY)
    editor = ScriptedEditor(parts={"tile/3": refusal})
    _, parts = await refine(tmp_path, editor)
    raise_if_all_refused(parts)
    found = report(parts)
    assert found["parts"][3]["refused"] == "Not this."
    assert found["parts_unchanged"] == 1
    assert editor.asked.count("tile/3/try/1") == 1
    _, parts = await refine(tmp_path, ScriptedEditor(parts={"tile": refusal}))
    with pytest.raises(ProviderFailed, match="Not this"):
        raise_if_all_refused(parts)


def test_weights_that_are_missing_are_told(tmp_path: Path) -> None:
    assert Limits(ssim=0.5).missing(tmp_path) is None
    for limits in (Limits(lpips=0.3), Limits(dists=0.3)):
        assert "not found" in str(limits.missing(tmp_path))


@pytest.mark.parametrize(
    ("limits", "accepted"),
    [(Limits(lpips=0.3), False), (Limits(dists=0.1), False), (Limits(lpips=0.5, dists=0.2), True), (Limits(), True)],
)
def test_each_score_has_its_limit(limits: Limits, accepted: bool) -> None:
    from compute.imaging.similarity import Scores

    assert limits.accept(Scores(0.9, lpips=0.4, dists=0.15)) is accepted


def test_tiny_images_are_compared_too(tmp_path: Path) -> None:
    small: Any = photo().resize((9, 30))
    assert Limits(ssim=0.5).scores(small, small, tmp_path).ssim > 0.99
