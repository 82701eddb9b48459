"""Read the user's camera and microphone as events for `replay`, after asking for consent; nothing is stored.

Frames come through OpenCV, sound through a recording program or FFmpeg's input device (PyAV). One of the two is enough.
"""

from __future__ import annotations

import os
import platform
import queue
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, cast

from demo.sources import Source, shelf_requests
from streamer.errors import RefusedUseError, StreamerError
from streamer.event_time import SystemClock
from streamer.recordings.events import Event
from streamer.recordings.media import JPEG_QUALITY, LARGEST_SIDE_PX
from streamer.recordings.sound import SAMPLE_RATE_HZ

LENGTH_MS = 60_000
FRAME_MS = 100
WAIT_S = 0.2
DRIFT_MS = 100
"""Sound is stamped by counting samples, and anew by the system clock where the two differ by more than this."""
QUEUED_EVENTS_MAX = 400
RECORDER_START_S = 0.3  # a recorder without a sound server has ended by then
BUFFER_BYTES = 3200  # 100 ms of sound, so that decoding doesn't wait for more
DISCLOSURE_VERSION = "demo-camera-1"
DISCLOSURE = """
For a minute this program would look at you through your camera and listen through your microphone, and estimate from
your expression and your voice which emotion they show. An estimate of expression, not of what you feel; often wrong.

  - Everything stays on this machine. Pictures and sound are kept in a temporary folder of the local Kafka until the
    demo ends, at most for about a minute and a half; then that folder is removed. Nothing of it is stored.
  - What is estimated orders a list of ten made-up items on this screen, and nothing else.
  - Ctrl-C ends it at any moment. If a second face comes into the picture, neither is read.
"""
DEVICES: dict[str, tuple[tuple[str, str], ...]] = {
    "Linux": (("alsa", "default"), ("alsa", "plughw:0")),
    "Darwin": (("avfoundation", ":default"), ("avfoundation", ":0")),
}
RECORDERS = (
    ("parec", "--raw", "--format=s16le", f"--rate={SAMPLE_RATE_HZ}", "--channels=1", "--latency-msec=50"),
    ("arecord", "-q", "-t", "raw", "-f", "S16_LE", "-r", str(SAMPLE_RATE_HZ), "-c", "1"),
)
"""Recording programs of Linux desktops; tried first, since they use the microphone chosen in the settings."""
ALSA_CONFIGURATION = Path("/usr/share/alsa/alsa.conf")


class NoDeviceError(StreamerError):
    """Neither a camera nor a microphone can be opened."""

    exit_code = 69


def camera_source(ask: Callable[[str], str] = input) -> Source:
    """Ask for consent, open the devices, and return a source that reads them for a minute.

    Raises:
        RefusedUseError: nobody is at a terminal, no consent, or a minor.
        NoDeviceError: no camera and no microphone.
    """
    agree(ask)
    camera, no_camera = _open_camera()
    microphone, no_microphone = _open_microphone()
    if camera is None and microphone is None:
        raise NoDeviceError(
            f"neither camera ({no_camera}) nor microphone ({no_microphone}); plug one in and allow this terminal to "
            "use it, or play a file: make demo MEDIA=my.mp4"
        )
    for why in (no_camera, no_microphone):
        if why:
            sys.stderr.write(f"going on without: {why}\n")
    capture = Capture(camera, microphone)
    devices = " and ".join(name for name, device in (("camera", camera), ("microphone", microphone)) if device)
    label = f"your {devices}"
    return Source(label, capture.events, LENGTH_MS, lambda _: ("you", "you"), is_recorded=False, stop=capture.stop)


def agree(ask: Callable[[str], str]) -> None:
    """Print the disclosure and ask for age and consent.

    Raises:
        RefusedUseError: nobody is at a terminal, or one of the two answers is not yes.
    """
    if not sys.stdin.isatty() and ask is input:
        raise RefusedUseError("the camera is only used after asking, and nobody is at a terminal to be asked")
    sys.stdout.write(DISCLOSURE + "\n")
    for question in ("Are you 18 or older? (yes/no) ", "Do you agree? (yes/no) "):
        try:
            answer = ask(question)
        except EOFError:
            answer = ""
        if answer.strip().lower() not in {"yes", "y", "ja", "j"}:
            raise RefusedUseError("not agreed: the camera and the microphone stay off")


class Recorder:
    """The standard output of a recording program, with the two methods of a PyAV container that are used here.

    Raises:
        OSError: the program ended at once, as it does without a sound server.
    """

    def __init__(self, command: Sequence[str]) -> None:
        import av

        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)  # noqa: S603 - ours
        self._stdout = cast("IO[bytes]", self._process.stdout)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(RECORDER_START_S)
            self._stdout.close()
            raise OSError(f"{command[0]} ended with code {self._process.returncode}")
        options = {"sample_rate": str(SAMPLE_RATE_HZ), "ch_layout": "mono"}
        self._container: Any = av.open(self._process.stdout, format="s16le", options=options, buffer_size=BUFFER_BYTES)

    def decode(self, *, audio: int) -> Iterator[Any]:
        """Yield audio frames as they are recorded."""
        yield from self._container.decode(audio=audio)

    def close(self) -> None:
        """Terminate the program."""
        self._process.terminate()
        self._process.wait()
        self._stdout.close()


class Capture:
    """Reads two devices by two threads into one queue; `events` ends after a minute or with `stop`."""

    def __init__(self, camera: Any, microphone: Any) -> None:
        self._camera, self._microphone = camera, microphone
        self._queue: queue.Queue[Event] = queue.Queue(QUEUED_EVENTS_MAX)
        self._stopped = threading.Event()
        self._clock = SystemClock()
        self._start_ms = 0

    def events(self) -> Iterator[Event]:
        """Yield the consent, then candidate lists, frames and audio chunks as they come."""
        self._start_ms = self._clock.now_ms()
        granted = [m for m, device in (("face", self._camera), ("voice", self._microphone)) if device is not None]
        yield consent(granted)
        for device, read in ((self._camera, self._watch), (self._microphone, self._listen)):
            if device is not None:
                threading.Thread(target=read, daemon=True).start()
        asked = shelf_requests(LENGTH_MS)
        request = next(asked, None)
        while not self._stopped.is_set() and self._now_ms() < LENGTH_MS:
            if request is not None and request.at_ms <= self._now_ms():
                yield request
                request = next(asked, None)
            try:
                yield self._queue.get(timeout=WAIT_S)
            except queue.Empty:
                continue

    def stop(self) -> None:
        """Stop reading; the threads close their devices."""
        self._stopped.set()

    def _now_ms(self) -> int:
        return self._clock.now_ms() - self._start_ms

    def _put(self, event: Event) -> None:
        try:
            self._queue.put_nowait(event)
        except queue.Full:  # nobody takes events any more
            self._stopped.set()

    def _watch(self) -> None:
        import cv2

        due_ms, seq = 0, 0
        while not self._stopped.is_set():
            success, picture = self._camera.read()
            at_ms = self._now_ms()
            if not success:
                break
            if at_ms < due_ms:
                continue
            due_ms = max(due_ms + FRAME_MS, at_ms)
            scale = min(1.0, LARGEST_SIDE_PX / max(picture.shape[:2]))
            picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
            data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()
            height, width = picture.shape[:2]
            fields = {"source_id": "camera", "seq": seq, "width": width, "height": height, "data": data}
            self._put(Event(at_ms, "video_frames", fields))
            seq += 1
        self._camera.release()

    def _listen(self) -> None:
        import av

        resampler = av.AudioResampler("s16", "mono", SAMPLE_RATE_HZ)
        next_ms, seq = 0.0, 0
        for frame in self._microphone.decode(audio=0):
            if self._stopped.is_set():
                break
            for piece in resampler.resample(frame):
                data = piece.to_ndarray().tobytes()
                length_ms = len(data) / 2 * 1000 / SAMPLE_RATE_HZ
                by_clock_ms = self._now_ms() - length_ms
                if abs(by_clock_ms - next_ms) > DRIFT_MS:
                    next_ms = max(by_clock_ms, 0.0)
                fields = {"source_id": "microphone", "seq": seq, "sample_rate_hz": SAMPLE_RATE_HZ, "channels": 1}
                self._put(Event(round(next_ms), "audio_chunks", {**fields, "data": data}))
                next_ms, seq = next_ms + length_ms, seq + 1
        self._microphone.close()


def consent(granted: list[str]) -> Event:
    """Make the consent record of the user for these modalities."""
    person = {"user_id": "you", "disclosure_version": DISCLOSURE_VERSION, "disclosed_at_ms": 0, "minor": False}
    return Event(0, "consents", {**person, "modalities": granted, "affect_ranking": True})


def _open_camera() -> tuple[Any, str]:
    """Open device 0; None and a reason where it gives no picture."""
    import cv2

    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # it warns of every missing device
    camera = cv2.VideoCapture(0)
    if camera.isOpened() and camera.read()[0]:
        return camera, ""
    camera.release()
    return None, "no camera answers as device 0"


def _open_microphone() -> tuple[Any, str]:
    """Open the system's microphone; None and a reason where there is none."""
    import av

    for command in RECORDERS:
        if shutil.which(command[0]):
            with suppress(OSError):
                return Recorder(command), ""
    if ALSA_CONFIGURATION.exists():  # PyAV's wheels look for it at the path of their build machine
        os.environ.setdefault("ALSA_CONFIG_PATH", str(ALSA_CONFIGURATION))
    problems = []
    for kind, device in DEVICES.get(platform.system(), ()):
        try:
            return av.open(device, format=kind), ""
        except (ValueError, OSError) as error:  # no such format in this build; no such device
            problems.append(f"{kind} {device}: {getattr(error, 'strerror', None) or error}")
    return None, "; ".join(problems) or f"no way to a microphone is known for {platform.system()}"
