"""Media files as phones, cameras and recorders make them: pictures upright, sound in its place, damage counted."""

from __future__ import annotations

import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from streamer.errors import MediaError
from streamer.recordings.events import Event
from streamer.recordings.session_folder import media_length_ms, read_session
from tests.streamer.recordings.media_files import corners, quarters, tone, with_display_matrix, write

UPRIGHT = ["red", "green", "blue", "white"]


def pictures(events: list[Event]) -> list[tuple[int, NDArray[np.uint8]]]:
    coded = [(e.at_ms, np.frombuffer(e.fields["data"], np.uint8)) for e in events if e.topic == "video_frames"]
    return [(at, np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)) for at, data in coded]


def chunks(events: list[Event], source: str = "microphone") -> list[tuple[int, int]]:
    """Of each chunk of sound the time and the length in ms."""
    found = [e for e in events if e.topic == "audio_chunks" and e.fields["source_id"] == source]
    assert [e.fields["seq"] for e in found] == list(range(len(found)))
    return [(e.at_ms, len(e.fields["data"]) // 32) for e in found]


def covered_ms(events: list[Event]) -> int:
    return sum(length for _, length in chunks(events))


def read(path: Path) -> list[Event]:
    events = list(read_session(path))
    assert [e.at_ms for e in events] == sorted(e.at_ms for e in events)
    return events


def shown(a: int, b: int, c: int, d: int) -> list[str]:
    """The quarters of the picture by the matrix' definition, point by point."""
    places = {
        (a * x + c * y, b * x + d * y): name
        for (x, y), name in zip([(-1, -1), (1, -1), (-1, 1), (1, 1)], UPRIGHT, strict=True)
    }
    return [places[x, y] for y in (-1, 1) for x in (-1, 1)]


@pytest.mark.parametrize(
    "matrix",
    [
        (1, 0, 0, 1),
        (0, 1, -1, 0),
        (-1, 0, 0, -1),
        (0, -1, 1, 0),
        (-1, 0, 0, 1),
        (1, 0, 0, -1),
        (0, 1, 1, 0),
        (0, -1, -1, 0),
    ],
)
def test_a_display_matrix_turns_and_mirrors(tmp_path: Path, matrix: tuple[int, int, int, int]) -> None:
    path = with_display_matrix(write(tmp_path / "phone.mp4", frames_at=[0, 0.1, 0.2]), *matrix)
    found = pictures(read(path))
    assert len(found) == 3
    assert corners(found[0][1]) == shown(*matrix)
    assert found[0][1].shape[:2] == ((64, 48) if matrix[0] == 0 else (48, 64))


@pytest.mark.parametrize(
    ("aspect", "width", "height"),
    [(Fraction(2), 128, 48), (Fraction(1, 2), 64, 96), (Fraction(4, 3), 85, 48), (Fraction(1, 50), 64, 48)],
)
def test_pixels_become_square(tmp_path: Path, aspect: Fraction, width: int, height: int) -> None:
    ((_, picture), *_) = pictures(read(write(tmp_path / "dv.mkv", frames_at=[0, 0.1], aspect=aspect)))
    assert picture.shape[:2] == (height, width)
    assert corners(picture) == UPRIGHT


@pytest.mark.parametrize("size", [(2, 2), (1280, 720), (16, 1200), (62, 50)])
def test_no_size_is_too_odd(tmp_path: Path, size: tuple[int, int]) -> None:
    ((_, picture), *_) = pictures(read(write(tmp_path / "v.mkv", frames_at=[0, 0.1], size=size, video_codec="ffv1")))
    assert max(picture.shape[:2]) == min(max(size), 640)
    assert min(picture.shape[:2]) >= 1


@pytest.mark.parametrize("pixels", ["yuv420p10le", "yuva420p", "gray", "bgr0"])
def test_ten_bits_alpha_and_grey_are_read(tmp_path: Path, pixels: str) -> None:
    ((_, picture), *_) = pictures(
        read(write(tmp_path / "v.mkv", frames_at=[0, 0.1], video_codec="ffv1", pixels=pixels))
    )
    assert pixels == "gray" or corners(picture) == UPRIGHT


def test_sound_that_starts_late_is_late(tmp_path: Path) -> None:
    events = read(write(tmp_path / "v.mkv", frames_at=np.arange(0, 4, 0.1).tolist(), sound=[(2.5, tone(1.5))]))
    assert chunks(events)[0] == (2500, 50)
    assert pictures(events)[0][0] == 0
    assert covered_ms(events) == pytest.approx(1500, abs=64)


def test_a_picture_that_starts_late_is_late(tmp_path: Path) -> None:
    events = read(write(tmp_path / "v.mkv", frames_at=np.arange(2, 3, 0.1).tolist(), sound=[(0, tone(3))]))
    assert pictures(events)[0][0] == pytest.approx(2000, abs=5)
    assert chunks(events)[0][0] == 0


def test_a_gap_in_the_sound_stays_one_and_no_chunk_spans_it(tmp_path: Path) -> None:
    found = chunks(read(write(tmp_path / "v.mkv", sound=[(0, tone(1.024)), (3, tone(1.024))])))
    before, after = [c for c in found if c[0] < 2000], [c for c in found if c[0] >= 2000]
    assert before[-1][0] + before[-1][1] == pytest.approx(1024, abs=2)
    assert after[0][0] == pytest.approx(3000, abs=2)
    assert sum(length for _, length in found) == pytest.approx(2048, abs=2)


def test_sound_that_overlaps_is_heard_once(tmp_path: Path) -> None:
    events = read(write(tmp_path / "v.mkv", sound=[(0, tone(2.048)), (1.8, tone(2.048))]))
    assert covered_ms(events) == pytest.approx(3848, abs=70)


def test_a_stream_that_jumps_far_goes_on_where_it_was(tmp_path: Path) -> None:
    found = chunks(read(write(tmp_path / "far.nut", sound=[(0, tone(1.024)), (100_000, tone(1.024))])))
    assert sum(found[-1]) == pytest.approx(2048, abs=5)


def test_a_recording_that_was_started_anew_goes_on_where_it_was(tmp_path: Path) -> None:
    times = np.arange(0, 3, 0.1).tolist()
    once = write(tmp_path / "once.ts", frames_at=times, sound=[(0, tone(3, 48000))], rate=48000, audio_codec="mp2")
    (tmp_path / "twice.ts").write_bytes(once.read_bytes() * 2)
    events = read(tmp_path / "twice.ts")
    assert covered_ms(events) == pytest.approx(6000, abs=200)
    assert sum(chunks(events)[-1]) == pytest.approx(6000, abs=200)
    assert pictures(events)[-1][0] == pytest.approx(5900, abs=250)


def test_a_transport_stream_starts_at_0_with_its_sound(tmp_path: Path) -> None:
    events = read(
        write(tmp_path / "camera.ts", frames_at=np.arange(0, 2, 0.1).tolist(), sound=[(0, tone(2, 48000))], rate=48000,
              audio_codec="mp2", video_codec="mpeg4")
    )  # fmt: skip
    assert min(e.at_ms for e in events) == 0
    assert pictures(events)[0][0] < 100
    assert chunks(events)[0][0] < 100
    assert len(pictures(events)) == 20


@pytest.mark.parametrize(
    ("rate", "layout", "codec", "sample_format"),
    [(8000, "mono", "pcm_s16le", "s16"), (44100, "mono", "flac", "s16"), (48000, "mono", "pcm_s16le", "s16")],
)
def test_sound_of_any_rate_keeps_its_length(
    tmp_path: Path, rate: int, layout: str, codec: str, sample_format: str
) -> None:
    path = write(
        tmp_path / "s.mkv",
        sound=[(0, tone(2, rate))],
        rate=rate,
        layout=layout,
        audio_codec=codec,
        sample_format=sample_format,
    )
    assert covered_ms(read(path)) == pytest.approx(2000, abs=150)


def test_six_channels_of_float_become_one(tmp_path: Path) -> None:
    surround = np.repeat((tone(1, 48000) / 32768).astype(np.float32)[None], 6, axis=0)
    path = write(
        tmp_path / "s.mkv", sound=[(0, surround)], rate=48000, layout="5.1", audio_codec="ac3", sample_format="fltp"
    )
    assert covered_ms(read(path)) == pytest.approx(1000, abs=100)


def test_sound_may_change_its_channels_and_rate(tmp_path: Path) -> None:
    mono = (tone(2, 22050) / 32768).astype(np.float32)
    one = write(tmp_path / "1.aac", sound=[(0, mono)], rate=22050, audio_codec="aac", sample_format="fltp",
                container="adts")  # fmt: skip
    stereo = np.repeat((tone(2, 48000) / 32768).astype(np.float32)[None], 2, axis=0)
    two = write(tmp_path / "2.aac", sound=[(0, stereo)], rate=48000, layout="stereo", audio_codec="aac",
                sample_format="fltp", container="adts")  # fmt: skip
    both = tmp_path / "both.aac"
    both.write_bytes(one.read_bytes() + two.read_bytes())
    events = read(both)
    assert covered_ms(events) == pytest.approx(4000, abs=200)
    last = chunks(events)[-1]
    assert sum(last) == pytest.approx(covered_ms(events), abs=5)


def test_frames_without_times_follow_each_other_by_the_rate_that_is_guessed(tmp_path: Path) -> None:
    moving = b"".join(cv2.imencode(".jpg", quarters())[1].tobytes() for _ in range(50))
    (tmp_path / "raw.mjpeg").write_bytes(moving)
    found = pictures(read(tmp_path / "raw.mjpeg"))
    assert [at for at, _ in found][:3] == [0, 120, 200]
    assert found[-1][0] == pytest.approx(2000, abs=120)


def test_pictures_may_change_their_size(tmp_path: Path) -> None:
    sizes = [(64, 48)] * 10 + [(32, 96)] * 10
    (tmp_path / "raw.mjpeg").write_bytes(b"".join(cv2.imencode(".jpg", quarters(*s))[1].tobytes() for s in sizes))
    assert {p.shape[:2] for _, p in pictures(read(tmp_path / "raw.mjpeg"))} == {(48, 64), (96, 32)}


def test_a_rate_that_varies_keeps_its_times(tmp_path: Path) -> None:
    times = [0, 0.03, 0.5, 0.51, 2.0, 2.3]
    assert [at for at, _ in pictures(read(write(tmp_path / "v.mkv", frames_at=times)))] == [0, 500, 510, 2000, 2300]


def damaged(path: Path, at: float, size: int = 900) -> Path:
    data = bytearray(path.read_bytes())
    begin = int(len(data) * at)
    data[begin : begin + size] = bytes(size)
    path.write_bytes(data)
    return path


def test_damaged_packets_are_left_out_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    clean = write(tmp_path / "a.mp3", sound=[(0, tone(5, 44100))], rate=44100, audio_codec="mp3", sample_format="s16p")
    whole_ms = covered_ms(read(clean))
    assert "damaged" not in caplog.text
    assert whole_ms - 300 <= covered_ms(read(damaged(clean, 0.5, 500))) < whole_ms
    assert "a.mp3: " in caplog.text
    assert "damaged packets of its audio are left out, the first at 2." in caplog.text


def test_a_file_that_is_cut_gives_what_it_has(tmp_path: Path) -> None:
    whole = write(tmp_path / "v.mkv", frames_at=np.arange(0, 4, 0.1).tolist(), sound=[(0, tone(4))])
    whole.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    events = read(whole)
    assert 10 < len(pictures(events)) < 35
    assert 1000 < covered_ms(events) < 3500


def test_a_file_whose_index_is_missing_is_refused_by_name(tmp_path: Path) -> None:
    whole = write(tmp_path / "v.mp4", frames_at=np.arange(0, 4, 0.1).tolist())
    whole.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with pytest.raises(MediaError, match=r"v\.mp4: not a media file that can be read"):
        read(whole)


def test_a_stream_without_a_decoder_leaves_the_other(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path / "v.mkv", frames_at=[0, 0.1], sound=[(0, tone(1.024))])
    path.write_bytes(path.read_bytes().replace(b"V_MPEG4/ISO/ASP", b"V_UNKNOWN/CODEC"))
    events = read(path)
    assert (len(pictures(events)), covered_ms(events)) == (0, 1024)
    assert "v.mkv: no decoder here for 1 of its video streams" in caplog.text


@pytest.mark.parametrize("name", ["clip.MOV", "clip.bin", "clip", "clip.txt", "clip.3gp.part"])
def test_a_suffix_says_nothing(tmp_path: Path, name: str) -> None:
    made = write(tmp_path / "v.mkv", frames_at=[0, 0.1])
    (tmp_path / "folder").mkdir()
    made.rename(tmp_path / "folder" / name)
    assert len(pictures(read(tmp_path / "folder" / name))) == 2
    assert len(pictures(read(tmp_path / "folder"))) == 2


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("notes.txt", b"just words\n" * 50, "not a media file|neither video nor"),
        ("a.srt", b"1\n00:00:01,000 --> 00:00:02,000\nhello\n", "neither video nor audio"),
        ("a.json", b'{"a": 1}', "not a media file"),
        ("a.jpg", cv2.imencode(".jpg", quarters())[1].tobytes(), "neither video nor sound"),
        ("a.png", cv2.imencode(".png", quarters())[1].tobytes(), "neither video nor sound"),
        (
            "list.m3u8",
            b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n",
            "not a media file|neither",
        ),
        ("list.ffconcat", b"ffconcat version 1.0\nfile /etc/passwd\n", "not a media file|neither"),
        ("empty.mp4", b"", "an empty file"),
        ("noise.mp3", bytes(range(256)) * 40, "can be decoded|not a media file|neither"),
    ],
)
def test_what_is_no_video_and_no_sound_is_refused_and_passed_over(
    tmp_path: Path, name: str, content: bytes, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(MediaError, match=why):
        read(tmp_path / name)
    (tmp_path / "chat.jsonl").write_text('{"event_time_ms": 5, "text": "hi"}\n')
    assert [e.topic for e in read(tmp_path)] == ["chat_messages"]
    assert name == "noise.mp3" or f"passed over as neither media nor *.jsonl: {name}" in caplog.text


def test_what_systems_leave_in_folders_is_passed_over_with_a_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = write(tmp_path / "v.mkv", frames_at=[0, 0.1])
    (tmp_path / "._v.mkv").write_bytes(made.read_bytes())
    (tmp_path / "._chat.jsonl").write_bytes(b"\x00\x05\x16\x07")
    (tmp_path / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    (tmp_path / "more").mkdir()
    assert len(read(tmp_path)) == 2
    assert "passed over as neither media nor *.jsonl: .DS_Store, ._chat.jsonl, ._v.mkv, more" in caplog.text


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, why in ((tmp_path / "none.mp4", "no such file"), (tmp_path / "pipe", "not a file")):
        with pytest.raises(MediaError, match=why):
            read(path)
    (tmp_path / "pipe").unlink()
    with pytest.raises(MediaError, match="a session folder holds a media file"):
        read(tmp_path)


def test_several_cameras_and_microphones_are_several_sources(tmp_path: Path) -> None:
    write(tmp_path / "left.mkv", frames_at=[0, 0.1], sound=[(0, tone(1.024))])
    write(tmp_path / "right.mp4", frames_at=[0, 0.1])
    by_source: dict[str, int] = {}
    for event in read(tmp_path):
        by_source[event.fields["source_id"]] = by_source.get(event.fields["source_id"], 0) + 1
    assert by_source == {"camera-left.mkv": 2, "camera-right.mp4": 2, "microphone": 21}


def test_a_file_says_how_long_it_is(tmp_path: Path) -> None:
    write(tmp_path / "a.mkv", sound=[(0, tone(1.024))])
    assert media_length_ms(tmp_path / "a.mkv") == pytest.approx(1024, abs=30)
    write(tmp_path / "b.mkv", sound=[(0, tone(2.048))])
    assert media_length_ms(tmp_path) == pytest.approx(2048, abs=30)


@pytest.fixture(autouse=True)
def nothing_on_stderr(capfd: pytest.CaptureFixture[str]) -> Iterator[Any]:
    """Libav's own lines, which name no file, never reach the terminal while a file is read."""
    yield
    assert " @ 0x" not in capfd.readouterr().err
