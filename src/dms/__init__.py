"""NuNet's Device Management Service: a daemon and a command line for a decentralised compute network.

The packages, from top to bottom (each imports only those below it; ``import-linter`` holds that):

===============  =====================================================================================
``cli``          the ``nunet`` command: one file per command group, talks to the daemon over REST only
``devnet``       a whole local network of real processes in one command
``daemon``       the process: signals, deadlines, the service manager
``app``          the composition root: builds a running service from its settings
``api``          the REST server
``node``         the root actor: its behaviours, onboarding, the provider side
``orchestrator`` deployments: state machine, bids, matching, commit, provisioning, journal
``allocation``   the allocation actor and its lifecycle hooks
``ensemble``     the job format: parse, validate, canonical JSON, manifest
``plugins``      executors, storage, GPUs and listeners that other packages bring
``executor``     the executor protocol and its backends
``storage``      volumes, and where their content comes from
``resources``    arithmetic, comparison, the resource manager
``hardware``     probes of the machine
``actor``        handles, envelopes, security context, dispatch
``network``      the network protocol and its libp2p implementation
``capability``   tokens, anchors, capability contexts
``identity``     keys, DIDs, the keystore, trust
``tasks``        what is done again and again, and when
``store``        the database
``observe``      logging, events, metrics
``config``       settings
``types``        canonical JSON, units, shared wire types, the root of all errors
``testing``      in-memory twins of the seams, shipped for tests
===============  =====================================================================================
"""

__version__ = "0.1.0"
