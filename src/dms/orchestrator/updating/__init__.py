"""A running deployment becomes a newer version of itself, or stays what it was: add, verify, then remove.

An update is a transaction. Nodes that are new or other than before are placed beside what runs, started and watched for a
while; only then what they replace is ended. Whatever goes wrong until then is undone, and what ran runs on.

:mod:`~dms.orchestrator.updating.state`     what is known of an update, and of the versions there were
:mod:`~dms.orchestrator.updating.moves`     which nodes come, go, or are replaced
:mod:`~dms.orchestrator.updating.merging`   the ensemble that is in force while two versions of it run
:mod:`~dms.orchestrator.updating.machine`   which event is taken when; pure
:mod:`~dms.orchestrator.updating.rollout`   the decisions, from bids to a batch that is well; pure
:mod:`~dms.orchestrator.updating.turning`   the decisions at its ends: begun, taken over, taken back; pure
:mod:`~dms.orchestrator.updating.versions`  the history of versions; pure
:mod:`~dms.orchestrator.updating.telling`   what happens, for people
:mod:`~dms.orchestrator.updating.carrying`  the shell: what an update asks of others
:mod:`~dms.orchestrator.updating.ensembles` the versions in hand
:mod:`~dms.orchestrator.updating.requests`  what users ask for: update, scale, revert
"""
