"""Broadcast over libp2p: streams, wire format and signatures for :mod:`dms.network.gossip`.

:mod:`.pubsub` puts it together; :mod:`.neighbours` holds what waits for each peer; :mod:`.wire` and :mod:`.signing` are the
format of go and js; :mod:`.offers` follows and makes recommendations.
"""
