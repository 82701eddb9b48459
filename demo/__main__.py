"""The command `python -m demo` (`make demo`): run the product on this machine for about a minute."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from streamer.errors import StreamerError

if TYPE_CHECKING:
    from demo.show import Prepare

EXIT_INPUT_OUTPUT, EXIT_INTERRUPTED = 74, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo and return its exit code; errors go to stderr as `error: ...`, without a traceback."""
    parser = argparse.ArgumentParser(
        prog="python -m demo", description="Plays a story, a file or your camera through the product."
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--media", type=Path, metavar="FILE", help="a video or sound file, or a session folder")
    what.add_argument("--camera", action="store_true", help="your camera and microphone, after asking")
    args = parser.parse_args(arguments)
    logging.basicConfig(level=logging.ERROR)
    try:
        return asyncio.run(_until_stopped(_prepare(args)))
    except StreamerError as error:
        sys.stderr.write(f"\nerror: {error}\n")
        return error.exit_code
    except OSError as error:
        sys.stderr.write(f"\nerror: {error}\n")
        return EXIT_INPUT_OUTPUT
    except (KeyboardInterrupt, asyncio.CancelledError):
        sys.stderr.write("\nstopped; nothing is left running\n")
        return EXIT_INTERRUPTED


def _prepare(args: argparse.Namespace) -> Prepare:
    """Choose what to play; a file or camera that can't be used is refused before Kafka is started."""
    from demo.sources import media_source, story_source

    if args.media is not None:
        source = media_source(args.media)
        return lambda _work, _progress: source
    if args.camera:
        from demo.camera import camera_source

        camera = camera_source()
        return lambda _work, _progress: camera
    return lambda work, progress: story_source(
        work / "story", lambda share: progress("story", "composing the story", share)
    )


async def _until_stopped(prepare: Prepare) -> int:
    """Run `show` and cancel it on Ctrl-C, SIGTERM or SIGHUP."""
    from demo.show import show

    loop, task = asyncio.get_running_loop(), asyncio.current_task()

    def stop() -> None:
        if task is not None:
            task.cancel()

    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(name, stop)
    return await show(prepare)


if __name__ == "__main__":
    sys.exit(main())
