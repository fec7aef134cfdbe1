"""Who would host what: the question, the answers, and what is measured between those who answered.

:mod:`~dms.orchestrator.bidding.wishes`         which bids are asked for: kinds of nodes, aggregated
:mod:`~dms.orchestrator.bidding.bids`           asks, round after round, and collects
:mod:`~dms.orchestrator.bidding.asking`         whose questions these are: what every part of the shell of a deployment needs
:mod:`~dms.orchestrator.bidding.sampling`       how few of very many answer
:mod:`~dms.orchestrator.bidding.bid`            the signed offer
:mod:`~dms.orchestrator.bidding.node_names`     names of many nodes in few words
:mod:`~dms.orchestrator.bidding.refusals`       the reasons of those who do not offer
:mod:`~dms.orchestrator.bidding.heard`          what was heard of whom, as it is kept
:mod:`~dms.orchestrator.bidding.edges`          asks peers to measure what lies between them
:mod:`~dms.orchestrator.bidding.edge_messages`  payloads of that
:mod:`~dms.orchestrator.bidding.measured`       one measured pair
:mod:`~dms.orchestrator.bidding.assignment`     from bids to a placement
"""
