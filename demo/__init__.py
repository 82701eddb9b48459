"""The demo: a story, a file or a camera played through the real product on this machine; `make demo`."""
