"""JPEG checks, face finding, cropping and picture quality: numbers in, numbers out."""

import time

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.face.crop import FAULTS, SIZE, Fault, Square, crop, crop_reference, quality, trust
from kernels.face.detection import CascadeDetector, FaceFinder, Pace, Track
from kernels.face.jpeg import JpegError, decode_grey, read_size
from tests.faces import Grey, empty_room, jpeg, portrait

FRAME_MS = 100
TRUE = Square(98, 76, 126)


@pytest.fixture(scope="module")
def finder() -> FaceFinder:
    return FaceFinder(CascadeDetector())


def follow(finder: FaceFinder, *pictures: Grey, track: Track | None = None, from_ms: int = 0) -> list[Track]:
    tracks = []
    for n, picture in enumerate(pictures):
        track = finder.find(picture, from_ms + n * FRAME_MS, track)
        tracks.append(track)
    return tracks


def moved(picture: Grey, right: int, down: int) -> Grey:
    shift = np.array([[1, 0, right], [0, 1, down]], np.float64)
    size = (picture.shape[1], picture.shape[0])
    return np.asarray(cv2.warpAffine(picture, shift, size, borderMode=cv2.BORDER_REPLICATE), np.uint8)


@settings(max_examples=40, deadline=None)
@given(st.integers(-60, 280), st.integers(-60, 200), st.integers(48, 200))
def test_a_crop_is_the_area_average_its_reference_says(x: int, y: int, side: int) -> None:
    square = Square(x, y, side)
    assert np.abs(crop(portrait(), square) - crop_reference(portrait(), square)).max() < 0.01


def test_a_small_face_is_enlarged_and_a_square_far_outside_repeats_the_edge() -> None:
    assert crop(portrait(), Square(150, 100, 24)).shape == (SIZE, SIZE)
    assert np.ptp(crop(portrait(), Square(-500, -500, 100))) < 0.01


def test_quality_tells_blur_darkness_and_clipping() -> None:
    sharp = crop(portrait(), TRUE)
    blurred = crop(np.asarray(cv2.GaussianBlur(portrait(), (0, 0), 6), np.uint8), TRUE)
    dark = crop((portrait() * 0.1).astype(np.uint8), TRUE)
    burnt = crop((portrait().astype(int) * 4).clip(0, 255).astype(np.uint8), TRUE)
    seen = [quality(face, TRUE) for face in (sharp, blurred, dark, burnt)]
    assert seen[1]["blur"] > seen[0]["blur"]
    assert seen[2]["light"] < 0.1 < seen[0]["light"]
    assert seen[3]["clipped"] > 0.3 > seen[0]["clipped"]
    assert seen[0]["size"] == 126
    assert all(0 <= s[name] <= 1 for s in seen for name in ("blur", "light", "clipped"))


GOOD = {"blur": 0.8, "size": 120.0, "light": 0.5, "clipped": 0.01}


def test_trust_is_whole_for_a_good_picture_and_less_for_each_fault() -> None:
    assert trust(GOOD) == 1.0
    faults = [{"size": 8.0}, {"clipped": 1.0}, {"blur": 1.0}]
    each = [trust(GOOD | fault) for fault in faults]
    assert all(0 < left < 0.9 for left in each)
    assert trust(GOOD | faults[0] | faults[1] | faults[2]) == pytest.approx(np.prod(each))


@given(st.sampled_from(sorted(FAULTS)), st.floats(0, 1), st.floats(0, 1))
def test_a_worse_picture_is_never_trusted_more(name: str, one: float, other: float) -> None:
    fault = FAULTS[name]
    worse, better = max(one, other), min(one, other)
    at = [fault.harmless + 1.5 * (share - 0.2) * (fault.hopeless - fault.harmless) for share in (better, worse)]
    assert trust(GOOD | {name: at[1]}) <= trust(GOOD | {name: at[0]})


def test_a_line_falls_from_harmless_to_hopeless_and_not_beyond() -> None:
    left = Fault(harmless=10, hopeless=6, left=0.5).factors(np.array([12, 10, 8, 6, 2]))
    assert left.tolist() == [1, 1, 0.75, 0.5, 0.5]


def test_an_upright_jpeg_keeps_its_pixels_and_a_turned_one_is_turned_back() -> None:
    grey = portrait(320, 240)
    upright = decode_grey(jpeg(grey, 100), width=320, height=240)
    assert np.abs(upright.astype(int) - grey).mean() < 2
    for rotation, quarter in ((90, 1), (180, 2), (270, 3)):
        turned = np.ascontiguousarray(np.rot90(grey, quarter))
        back = decode_grey(jpeg(turned, 100), width=turned.shape[1], height=turned.shape[0], rotation=rotation)
        assert back.shape == grey.shape
        assert np.abs(back.astype(int) - grey).mean() < 2


def test_a_colour_jpeg_is_read_as_grey() -> None:
    colour = np.dstack([portrait()] * 3)
    coded = bytes(cv2.imencode(".jpg", colour)[1].tobytes())
    assert np.abs(decode_grey(coded, width=320, height=240).astype(int) - portrait()).mean() < 3


@pytest.mark.parametrize("kept", [0, 1, 2, 3, 20, 200, 3000])
def test_a_jpeg_cut_anywhere_is_an_error(kept: int) -> None:
    with pytest.raises(JpegError):
        decode_grey(jpeg(portrait())[:kept], width=320, height=240)


@given(st.binary(max_size=200))
def test_noise_is_an_error_and_nothing_else(data: bytes) -> None:
    for noise in (data, b"\xff\xd8" + data, b"\xff\xd8\xff\xe0" + data):
        with pytest.raises(JpegError):
            decode_grey(noise, width=320, height=240)


def test_a_size_other_than_announced_is_an_error_that_says_both() -> None:
    with pytest.raises(JpegError, match=r"320 x 240.*640 x 480"):
        decode_grey(jpeg(portrait()), width=640, height=480)


def progressive(grey: Grey) -> bytes:
    import cv2

    done, data = cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])
    assert done
    return bytes(data)


def with_scans(picture: bytes, scans: int) -> bytes:
    """A progressive JPEG whose last scan is repeated."""
    last = picture.rindex(b"\xff\xda")
    return picture[:-2] + picture[last:-2] * scans + b"\xff\xd9"


def test_a_progressive_jpeg_is_read_and_one_of_thousands_of_scans_is_refused_at_once() -> None:
    grey = portrait()
    rows, columns = grey.shape
    picture = progressive(grey)
    plain = decode_grey(picture, width=columns, height=rows)
    assert np.abs(plain.astype(int) - grey).mean() < 5
    bomb = with_scans(picture, 2000)
    begun = time.perf_counter()
    with pytest.raises(JpegError, match="more than 64 scans"):
        decode_grey(bomb, width=columns, height=rows)
    assert time.perf_counter() - begun < 0.2


BEHIND = [b"", b"\r\n", b"\x00" * 9, b"\xff\xda" * 100, b"\x00\x00\x00\x18ftypmp42" + bytes(5000)]


@pytest.mark.parametrize("behind", BEHIND)
def test_what_follows_the_end_marker_is_ignored(behind: bytes) -> None:
    grey = portrait()
    rows, columns = grey.shape
    plain, more = jpeg(grey), jpeg(grey) + behind
    read = decode_grey(more, width=columns, height=rows)
    assert (read == decode_grey(plain, width=columns, height=rows)).all()


def test_the_end_of_a_thumbnail_is_not_the_pictures() -> None:
    grey = portrait()
    rows, columns = grey.shape
    whole, small = jpeg(grey), jpeg(grey[::8, ::8])
    app1 = b"\xff\xe1" + (len(small) + 2).to_bytes(2, "big") + small
    assert decode_grey(whole[:2] + app1 + whole[2:], width=columns, height=rows).shape == grey.shape
    with pytest.raises(JpegError, match="cut short"):
        decode_grey(whole[:2] + app1 + whole[2:-40], width=columns, height=rows)


def test_a_bomb_is_refused_by_its_header() -> None:
    header = jpeg(portrait())
    at = header.index(b"\xff\xc0") + 5
    bomb = header[:at] + b"\xff\xff\xff\xff" + header[at + 4 :]
    assert read_size(bomb) == (65535, 65535)
    with pytest.raises(JpegError, match="pixels"):
        decode_grey(bomb, width=65535, height=65535)


@pytest.mark.parametrize("size", [(320, 240), (640, 480)])
def test_the_portrait_is_found_where_it_is(finder: FaceFinder, size: tuple[int, int]) -> None:
    (track,) = follow(finder, portrait(*size))
    scale = size[0] / 320
    assert track.square is not None
    assert track.square.overlap(Square(98 * scale, 76 * scale, 126 * scale)) > 0.8
    assert track.faces == 1


def test_a_moving_face_is_followed(finder: FaceFinder) -> None:
    steps = [(4 * n, 2 * n) for n in range(12)]
    tracks = follow(finder, *(moved(portrait(), *step) for step in steps))
    for track, (right, down) in zip(tracks, steps, strict=True):
        assert track.square is not None
        assert track.square.overlap(Square(98 + right, 76 + down, 126)) > 0.6


def test_no_face_is_found_in_empty_rooms(finder: FaceFinder) -> None:
    assert all(follow(finder, empty_room(seed=n))[0].square is None for n in range(20))


def test_a_bent_head_is_found_within_three_pictures(finder: FaceFinder) -> None:
    turn = cv2.getRotationMatrix2D((160, 140), 24, 1.0)
    bent = np.asarray(cv2.warpAffine(portrait(), turn, (320, 240), borderMode=cv2.BORDER_REPLICATE), np.uint8)
    assert any(t.square is not None for t in follow(finder, bent, bent, bent))


def test_two_sightings_of_one_face_are_one_face() -> None:
    class Twice(Blind):
        def search(self, grey: Grey, min_px: int, attempt: int) -> list[Square]:
            return [TRUE, Square(TRUE.x + 30, TRUE.y + 50, 60)]

    (track,) = follow(FaceFinder(Twice()), portrait())
    assert track.faces == 1


def test_a_face_that_leaves_is_not_held(finder: FaceFinder) -> None:
    tracks = follow(finder, portrait(), portrait(), *[empty_room()] * 3)
    assert [t.square is None for t in tracks] == [False, False, True, True, True]


def test_a_second_face_is_noticed_at_the_next_whole_search(finder: FaceFinder) -> None:
    alone = np.hstack([portrait(), empty_room()])
    together = np.hstack([portrait(), portrait()])
    wait = Pace().following_ms // FRAME_MS
    tracks = follow(finder, alone, *[together] * wait)
    assert tracks[0].faces == 1
    assert tracks[-1].faces == 2


class Blind:
    """A detector that sees the face once, then nothing."""

    def __init__(self) -> None:
        self.searches = 0

    def search(self, grey: Grey, min_px: int, attempt: int) -> list[Square]:
        self.searches += 1
        return [TRUE] if self.searches == 1 else []

    def confirm(self, grey: Grey, near: Square) -> Square | None:
        return None


def test_a_face_the_detector_loses_is_held_by_its_looks_for_a_bounded_time() -> None:
    finder = FaceFinder(Blind(), pace=Pace(hold_ms=600))
    tracks = follow(finder, *(moved(portrait(), 2 * n, 0) for n in range(10)))
    held = [t.square for t in tracks if t.square is not None]
    assert len(held) == 7
    assert held[-1].overlap(Square(98 + 12, 76, 126)) > 0.9


def test_a_lost_face_is_first_looked_for_where_it_was() -> None:
    class Returning(Blind):
        def confirm(self, grey: Grey, near: Square) -> Square | None:
            return near if grey.mean() > 120 else None

    finder = FaceFinder(Returning(), pace=Pace(remember_ms=1000))
    bright, dim = portrait(), (empty_room() * 0.5).astype(np.uint8)
    assert bright.mean() > 120 > dim.mean()
    soon = follow(finder, bright, *[dim] * 3, bright)
    assert [t.square is None for t in soon] == [False, True, True, True, False]
    finder = FaceFinder(Returning(), pace=Pace(remember_ms=1000))
    late = follow(finder, bright, *[dim] * 12, bright)
    assert late[-1].square is None


def test_whole_pictures_are_searched_at_a_bounded_rate() -> None:
    detector = Blind()
    finder = FaceFinder(detector, pace=Pace(lost_ms=90))
    track = None
    for n in range(100):
        track = finder.find(empty_room(), 10 * n, track)
    assert detector.searches <= 1 + 1000 // 90


def test_a_gap_or_a_step_back_in_time_starts_afresh() -> None:
    for later_ms in (60_000, -5_000):
        detector = Blind()
        finder = FaceFinder(detector)
        (first,) = follow(finder, portrait())
        (second,) = follow(finder, portrait(), track=first, from_ms=later_ms)
        assert (first.square is None, second.square is None) == (False, True)
