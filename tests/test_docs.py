"""Documents that are made from the code say what the code says now."""

from __future__ import annotations

from docs import draw_event_time


def test_the_picture_of_event_time_is_drawn_from_windows_as_they_close_today() -> None:
    drawn = draw_event_time.OUT.read_text(encoding="utf-8")
    assert drawn == draw_event_time.picture(), "make it anew: python -m docs.draw_event_time"
