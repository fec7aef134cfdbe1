"""``nunet peers``: to whom the node is connected."""

from __future__ import annotations

import typer

from dms.cli.options import Context, Format, Output


def peers(ctx: typer.Context, context: Context = None, output: Output = Format.TABLE) -> None:
    """List the peers that the node is connected to, with the round trip where it was measured.

    Examples:
      nunet peers
      nunet peers --output json
    """
    from dms.cli.output import print_table, show
    from dms.cli.session import Session
    from dms.node.payloads import PeersList
    from dms.types import gojson

    session = Session.of(ctx)
    reply = session.client(context).call("/dms/node/peers/list", None, PeersList)
    if output is not Format.TABLE:
        show(gojson.to_builtins(reply), output)
        return
    connections = {connection.id: connection for connection in reply.connections}
    rows = []
    for peer in sorted(reply.peers):
        found = connections.get(peer)
        rtt = f"{found.rtt_ms:.1f} ms" if found and found.rtt_ms else ""
        name = session.peer_name(peer)
        rows.append(
            (
                peer,
                "" if name.startswith("…") else name,
                found.direction if found else "",
                rtt,
                found.addresses[0] if found and found.addresses else "",
            )
        )
    print_table(("PEER", "NAME", "DIRECTION", "RTT", "ADDRESS"), rows)
