"""``nunet peers``: to whom the node is connected."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from dms.cli.options import Context, Format, Output
from dms.cli.peer_latency import ConnectedFor, MaxRTT, Nearest

if TYPE_CHECKING:
    from dms.node.peer_payloads import ConnectionInfo

app = typer.Typer(name="peers", help="List the peers that the node is connected to or knows.")

COLUMNS = ("PEER", "NAME", "DIRECTION", "OVER", "RTT", "SCORE", "AGE", "ADDRESS")
DHT_COLUMNS = ("PEER", "NAME", "NEAR", "CONNECTED", "KNOWN FOR", "HEARD OF", "ADDRESS")
CONNECT_S = 15.0

Scores = Annotated[bool, typer.Option("--scores", help="Show what broadcasting thinks of each peer, and why.")]


@app.callback(invoke_without_command=True)
def peers(
    ctx: typer.Context, context: Context = None, *, scores: Scores = False, output: Output = Format.TABLE
) -> None:
    """List the peers that the node is connected to: live connections only.

    DIRECTION is who opened the connection, OVER what carries it ("relayed" where a third peer passes it on), RTT the
    smoothed round trip where it was measured, SCORE what broadcasting thinks of the peer (below 0: it misbehaved), AGE
    for how long the connection has existed.

    With --scores, the worst first: OURS is what the node itself thinks (5: greeted each other, 1: speaks our protocol), TOPICS
    those whose broadcasts go by way of the peer, REJECTED and BREACHES how often it passed on what nobody may and broke the
    rules (both fade within an hour; in brackets what they take away), CROWD what sharing its address with many
    others takes away. Below -500 it is told of no broadcasts, below -1000 it gets none of ours, below -2500 nothing that
    it broadcasts is looked at.

    Examples:
      nunet peers
      nunet peers --scores
      nunet peers --output json
      nunet peers dht
      nunet peers latency --max-rtt 50ms
    """
    if ctx.invoked_subcommand is not None:
        return
    from msgspec.structs import replace

    from dms.cli.output import print_table, show
    from dms.cli.session import Session
    from dms.node.peer_payloads import ConnectionInfo, PeersList
    from dms.types import gojson

    session = Session.of(ctx)
    if scores:
        from dms.cli import peer_scores
        from dms.node.peer_payloads import PeerScores

        found = session.client(context).call("/dms/node/peers/score", None, PeerScores)
        if output is not Format.TABLE:
            show(gojson.to_builtins(found), output)
            return
        print_table(peer_scores.COLUMNS, peer_scores.rows(found, session.peer_name))
        return
    reply = session.client(context).call("/dms/node/peers/list", None, PeersList)
    if output is not Format.TABLE:
        show(gojson.to_builtins(reply), output)
        return
    known = {connection.id: connection for connection in reply.connections}
    unknown = ConnectionInfo(
        id="", addresses=(), direction="", rtt_ms=0.0, transport="", relayed=False, score=0.0, age_s=0.0
    )  # the original tells ids only
    connections = [known.get(peer) or replace(unknown, id=peer) for peer in reply.peers]
    print_table(COLUMNS, [_row(connection, session.peer_name) for connection in sorted(connections, key=_order)])


@app.command("dht")
def dht(ctx: typer.Context, context: Context = None, output: Output = Format.TABLE) -> None:
    """Show the routing table of the hash table, through which nodes find each other.

    NEAR is how many leading bits of the peer's place in the table are this node's, too: the higher, the nearer. KNOWN FOR
    is since when it has been in the table, HEARD OF how long ago it last asked or answered.

    Examples:
      nunet peers dht
      nunet peers dht --output json
    """
    from dms.cli.output import print_table, show
    from dms.cli.session import Session
    from dms.node.peer_payloads import RoutingTable
    from dms.types import gojson
    from dms.types.units import format_duration

    session = Session.of(ctx)
    table = session.client(context).call("/dms/node/peers/dht", None, RoutingTable)
    if output is not Format.TABLE:
        show(gojson.to_builtins(table), output)
        return
    rows = []
    for peer in table.peers:
        name = session.peer_name(peer.id)
        rows.append(
            (
                peer.id,
                "" if name.startswith("…") else name,
                str(peer.bucket),
                "yes" if peer.connected else "no",
                format_duration(peer.since_s),
                f"{format_duration(peer.heard_s)} ago",
                peer.addresses[0] if peer.addresses else "",
            )
        )
    print_table(DHT_COLUMNS, rows)
    print()
    role = "serves it to others" if table.serving else "only asks, as others cannot reach it or p2p.dht_server is off"
    print(f"{table.protocol}: this node {role}.")
    print(f"Kept for others: {table.records} records, {table.provided} keys with their providers.")
    print(f"Advertised by this node: {', '.join(table.advertised) or 'nothing'}.")
    print(f"Addresses are known of {table.known} peers.")


@app.command("latency")
def latency(
    ctx: typer.Context,
    context: Context = None,
    *,
    max_rtt: MaxRTT = None,
    connected_for: ConnectedFor = None,
    nearest: Nearest = 0,
    output: Output = Format.TABLE,
) -> None:
    """Show how near the connected peers are, the nearest first.

    RTT is the smoothed round trip, VARIES BY how much single ones differ from it, AT LEAST the shortest of the last minutes,
    ESTIMATED what the network coordinates of both suggest, which is also how the way between two other peers is guessed.

    Examples:
      nunet peers latency
      nunet peers latency --max-rtt 50ms --connected-for 1h
      nunet peers latency --nearest 10 --output json
    """
    from dms.cli import peer_latency
    from dms.cli.client import refused
    from dms.cli.output import print_table, show
    from dms.cli.session import Session
    from dms.node.nearness_payloads import LATENCY, PeerDistances
    from dms.types import gojson

    session = Session.of(ctx)
    request = peer_latency.choice(max_rtt, connected_for, nearest)
    found = session.client(context).call(LATENCY, request, PeerDistances)
    if found.error:
        raise refused(found.error)
    if output is not Format.TABLE:
        show(gojson.to_builtins(found), output)
        return
    print_table(peer_latency.COLUMNS, [peer_latency.row(peer, session.peer_name) for peer in found.peers])
    if found.place is not None:
        print(f"\nThe estimates of this node are wrong by {found.place.error:.0%} on average.")


@app.command("connect")
def connect(
    ctx: typer.Context,
    peer: Annotated[
        str, typer.Argument(metavar="ID|ADDRESS", help="A peer's id, or a multiaddress that ends with it.")
    ],
    context: Context = None,
) -> None:
    """Connect to a peer. An id alone is looked for: among the known peers, at the connected ones, in the hash table.

    Examples:
      nunet peers connect 12D3KooW…
      nunet peers connect /ip4/192.0.2.7/tcp/9000/p2p/12D3KooW…
    """
    from dms.cli.client import refused
    from dms.cli.session import Session
    from dms.network.addresses import parse_peer_id, split_address
    from dms.node.peer_payloads import ConnectReply, ConnectRequest

    (split_address if peer.startswith("/") else parse_peer_id)(peer)  # what is none is bad input, whoever is asked
    session = Session.of(ctx)
    request = ConnectRequest(address=peer)
    reply = session.client(context).call("/dms/node/peers/connect", request, ConnectReply, timeout_s=CONNECT_S)
    if reply.error:
        raise refused(reply.error)
    print(f"connected to {peer.rpartition('/')[2]}")


def _order(connection: ConnectionInfo) -> tuple[bool, float, str]:
    return connection.rtt_ms == 0, connection.rtt_ms, connection.id


def _row(connection: ConnectionInfo, name_peer: Callable[[str], str]) -> tuple[str, ...]:
    from dms.types.units import format_duration

    name = name_peer(connection.id)
    return (
        connection.id,
        "" if name.startswith("…") else name,
        connection.direction,
        f"{connection.transport}, relayed" if connection.relayed else connection.transport,
        f"{connection.rtt_ms:.1f} ms" if connection.rtt_ms else "",
        f"{connection.score:.2f}" if connection.transport else "",
        format_duration(connection.age_s) if connection.age_s else "",
        connection.addresses[0] if connection.addresses else "",
    )
