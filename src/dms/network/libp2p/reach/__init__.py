"""How others reach us, and what is done when they cannot.

- :mod:`~dms.network.libp2p.reach.service`: all of it together; :mod:`~dms.network.libp2p.reach.options`: what the owner decides.
- :mod:`~dms.network.libp2p.reach.observed`: our address as others see it.
- :mod:`~dms.network.libp2p.reach.autonat`, :mod:`~dms.network.libp2p.reach.autonat2`: others dial us to try;
  :mod:`~dms.network.libp2p.reach.verdict`: what follows.
- :mod:`~dms.network.libp2p.reach.circuits`: connections through relays; :mod:`~dms.network.libp2p.reach.relay`: being one, with
  its :mod:`~dms.network.libp2p.reach.ledger`; :mod:`~dms.network.libp2p.reach.relays`: choosing some.
- :mod:`~dms.network.libp2p.reach.punching`: direct connections in place of relayed ones.
- :mod:`~dms.network.libp2p.reach.mapping`: the router at home.
- :mod:`~dms.network.libp2p.reach.messages`, :mod:`~dms.network.libp2p.reach.protobuf`: the bytes of all that.
"""
