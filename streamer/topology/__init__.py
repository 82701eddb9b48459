"""topology.yaml to a checked Topology, and a Topology to its Mermaid picture and its AsyncAPI document.

It may import the contracts (the modules directly in `streamer`) and `windowing`.
"""
