"""The private network of an ensemble: addresses, packets, names and ports (``spec/network.md`` 7).

Pure:

- :mod:`~dms.subnet.addresses`: which network an ensemble gets, which address an allocation; IPv6 beside IPv4.
- :mod:`~dms.subnet.routing`: which peer has which address.
- :mod:`~dms.subnet.packets`: what the headers of a packet say, and the few packets that we write ourselves.
- :mod:`~dms.subnet.ports`: which public port leads where.
- :mod:`~dms.subnet.dns`: names to addresses and back.
- :mod:`~dms.subnet.errors`: what can go wrong.
- :mod:`~dms.subnet.segments`: packets larger than the MTU, :mod:`~dms.subnet.joining` the other way round;
  :mod:`~dms.subnet.bundles` and, where something is lost, :mod:`~dms.subnet.pieces`: both between nodes of ours.
- :mod:`~dms.subnet.frames`: packets on a stream.
- :mod:`~dms.subnet.forwarding`: where a packet goes, and whether its sender may send it; :mod:`~dms.subnet.tally`: counts.
- :mod:`~dms.subnet.queues`, :mod:`~dms.subnet.budgets`: what waits for a peer, and what a relay carries;
  :mod:`~dms.subnet.pace`: when waiting for more pays; :mod:`~dms.subnet.totals`: for metrics.

Between nodes:

- :mod:`~dms.subnet.sharing`: what all networks that we share with a peer have in common.
- :mod:`~dms.subnet.links`: our sending side towards one peer; :mod:`~dms.subnet.exchange`: what peers send.
- :mod:`~dms.subnet.datagrams`: packets past the stream, with :mod:`~dms.subnet.sealing`, :mod:`~dms.subnet.probing` and
  :mod:`~dms.subnet.udp`.
- :mod:`~dms.subnet.connecting`: a TCP connection as a stream, without packets; :mod:`~dms.subnet.pipes`: bytes both ways.
- :mod:`~dms.subnet.plane`: one network on one node; :mod:`~dms.subnet.resolver`: its answers to questions for names, with
  :mod:`~dms.subnet.upstream` for names outside and :mod:`~dms.subnet.name_streams` for long answers.

On this machine:

- :mod:`~dms.subnet.subnets`: all networks of a node; :mod:`~dms.subnet.subnet`: one of them, its members, names and ports;
  :mod:`~dms.subnet.attachments`: their devices.
- :mod:`~dms.subnet.messages`: what orchestrators tell machines; :mod:`~dms.subnet.status`: what is told of one, and
  :mod:`~dms.subnet.describing`: how that is found.
- :mod:`~dms.subnet.kernel`: the seam to the kernel, with :mod:`~dms.subnet.tun`, :mod:`~dms.subnet.netlink`,
  :mod:`~dms.subnet.namespaces`, :mod:`~dms.subnet.guests`, :mod:`~dms.subnet.names_here` and
  :mod:`~dms.subnet.firewall` behind it.
"""
