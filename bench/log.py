"""What a line in the log costs: an event with fields, as JSON in a rotating file, beside the standard library's own logging.

Processor time of the thread that logs. The same sentence is logged by both, to files in the same directory. *Added* is what
our entry (secrets looked for, fields, JSON, size watched) costs more than the standard library's plain line. With taps, the
entry also goes where the daemon has it go: into the memory that ``nunet monitor`` reads, and into the buffer for Elasticsearch.
"""

from __future__ import annotations

import io
import logging
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench.networks import Bench
from bench.report import Report
from dms.observe import EventBus, configure_logging, get_logger
from dms.observe.elastic import ElasticOutput
from dms.observe.log import add_tap
from dms.observe.posting import Poster
from dms.observe.ring import Ring

CALLS = 5_000
TURNS = 9
MAX_ADDED_US = 20.0
FIELDS = {"allocation": "3f2a_n1.web", "peer": "12D3KooWHzew9HTYzywFuvTHGK5Yzoz7qAhMfxagtCvhvjheoBQ3", "attempt": 3}


def measure(_bench: Bench) -> Report:
    """See the module."""
    report = Report("log", "what does a line in the log cost?")
    with tempfile.TemporaryDirectory() as directory:
        ours, standard, tapped, silent = _turns(Path(directory))
    report.median("a line, ours: JSON with three fields", ours, "µs")
    report.median("a line, the standard library's", standard, "µs")
    report.median("a line, ours, with memory and Elasticsearch", tapped, "µs")
    report.median("a line below the level", silent, "µs")
    report.ratio("a line: ours / the standard library's", ours, standard)
    added = min(ours) - min(standard)  # of the best turns: the goal names a machine that has nothing else to do
    report.single("added to the standard library's", added, "µs")
    report.goal("added to the standard library's", added, MAX_ADDED_US, "µs")
    return report


def _turns(directory: Path) -> tuple[list[float], list[float], list[float], list[float]]:
    plain = logging.getLogger("bench.plain")
    plain.propagate = False
    plain.setLevel(logging.INFO)
    handler = logging.FileHandler(directory / "plain.log")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    plain.addHandler(handler)
    configure_logging("INFO", directory / "dms.jsonl", did="did:key:z6Mk", console=io.StringIO(), console_level="FATAL")
    log, ring = get_logger("dms.bench"), Ring()
    output = ElasticOutput(Poster("http://127.0.0.1:1", {}), "nunet-dms", EventBus())
    ours, standard, tapped, silent = list[float](), list[float](), list[float](), list[float]()
    for turn in range(TURNS + 1):
        found = (
            _each(lambda: log.info("allocation_started", **FIELDS)),
            _each(lambda: plain.info("allocation_started allocation=%(allocation)s peer=%(peer)s %(attempt)d", FIELDS)),
        )
        removes = [add_tap(lambda _level, entry: ring.add(entry)), add_tap(output.take)]
        with_taps = _each(lambda: log.info("allocation_started", **FIELDS))
        for remove in removes:
            remove()
        below = _each(lambda: log.debug("allocation_started", **FIELDS))
        if turn:  # the first one warms caches
            for runs, value in zip((ours, standard, tapped, silent), (*found, with_taps, below), strict=True):
                runs.append(value)
    plain.removeHandler(handler)
    handler.close()
    configure_logging("INFO", None)
    return ours, standard, tapped, silent


def _each(call: Callable[[], object]) -> float:
    """Microseconds of one call, processor time."""
    begun = time.thread_time()
    for _ in range(CALLS):
        call()
    return (time.thread_time() - begun) / CALLS * 1e6
