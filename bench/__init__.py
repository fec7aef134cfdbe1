"""The figures that this project promises or watches: `make bench`, or `python -m bench NAME …`.

Every benchmark measures its subject and what it is compared with side by side, turn by turn, in one run, and reports
ratios: those hold on a busy or a slow machine too, where seconds do not. Nothing here fails because of a time.

- :mod:`bench.deploy`: from a request to a running task, beside starting the same module by hand.
- :mod:`bench.envelope`: messages verified and dispatched, beside bare Ed25519.
- :mod:`bench.node`: start and memory of a node, beside its network library alone.
- :mod:`bench.cli`: processor time of short commands, beside a bare interpreter.
- :mod:`bench.messages`: round trips over libp2p, beside plain TCP.
- :mod:`bench.gossip`: broadcasts between two processes, beside the library's own router.
- :mod:`bench.matching`: placements under latency bounds, beside OR-Tools CP-SAT (:mod:`bench.cp_sat`).
- :mod:`bench.report`, :mod:`bench.machine`, :mod:`bench.processes`, :mod:`bench.networks`: what they share.
"""
