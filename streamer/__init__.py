"""The runtime: topics in, topics out, event time. It knows nothing of faces, voices, emotions or consent."""
