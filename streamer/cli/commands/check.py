"""`streamer check`: validate the topology file, and with `--kafka` a Kafka that it is to run on."""

from __future__ import annotations

import argparse
import asyncio
import sys

from streamer.cli.arguments import add_topology
from streamer.cli.terminal import open_kafka, read_settings
from streamer.compliance.retention import media_retention_lines
from streamer.errors import ConfigurationError
from streamer.runtime.audit_trail import AUDIT, NONE_KEPT
from streamer.settings import Settings
from streamer.topology.reading import load_topology
from streamer.topology.rights import needed_rights
from streamer.topology.topology import Topology


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `--topology`, and `--kafka` to judge a real Kafka too."""
    add_topology(parser)
    judged = "judge the Kafka of STREAMER_BROKERS too: reach, security, rights, topics, retention; nothing is changed"
    parser.add_argument("--kafka", action="store_true", help=judged)


def run(args: argparse.Namespace) -> int:
    """Validate the topology file: print one line if it is valid, else raise an error with all its problems."""
    topology = load_topology(args.topology)
    sys.stdout.write(
        f"{topology.source}: ok: {len(topology.operators)} operators, {len(topology.topics)} topics, "
        f"{topology.partitions} partitions each\n"
    )
    if AUDIT not in topology.topics:
        sys.stderr.write(f"note: {NONE_KEPT}\n")
    return asyncio.run(_judge(topology, read_settings())) if args.kafka else 0


async def _judge(topology: Topology, settings: Settings) -> int:
    """Print what is right and wrong with a Kafka; the exit code of a bad configuration where anything is."""
    wrong: list[str] = []
    async with open_kafka(settings) as broker:
        rights = needed_rights(topology)
        try:
            await broker.require_rights(rights)
            held = f"all {len(rights)} rights are there"
        except ConfigurationError as error:
            wrong += [str(problem) for problem in error.problems]
            held = f"{len(error.problems)} of {len(rights)} rights are missing"
        sys.stdout.write(f"Kafka at {broker.address}: reached by {settings.security_protocol}; {held}\n")
        topics = await broker.judge_topics(topology.topic_specs())
        wrong += topics.differences
        if topics.missing:
            made = "are made at the first start (which needs Create on them)"
            sys.stdout.write(f"{len(topics.missing)} topics {made}: {', '.join(topics.missing)}\n")
        there = len(topology.topics) - len(topics.missing)
        sys.stdout.write(f"{there} of {len(topology.topics)} topics are there\n")
        notes = [*topics.warnings, *([] if topics.missing else await media_retention_lines(broker, topology))]
    sys.stdout.writelines(f"{line}\n" for line in notes)
    sys.stdout.writelines(f"wrong: {line}\n" for line in wrong)
    return ConfigurationError.exit_code if wrong else 0
