"""Broadcast: GossipSub with the parameters of ``spec/network.md`` 4, hardened.

What differs from the library, and why:

- Validators judge in three ways (accept, ignore, reject); only rejected messages count against the peer that relayed
  them.
- Frames that cannot be parsed end their stream and nothing else; messages of a peer are taken one by one, so
  a flood slows its sender instead of filling our memory.
- Own messages go to every subscriber we know (flood publish), so the first message of a young mesh is not lost.
- A heartbeat that fails is logged and the next one comes; scores survive a reconnect.
- Publishing waits while the queue of some peer is half full.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Callable, Iterable

import trio
from google.protobuf.message import DecodeError
from libp2p.abc import INetStream
from libp2p.exceptions import ParseError
from libp2p.io.exceptions import IOException, MessageTooLarge
from libp2p.network.stream.exceptions import StreamError
from libp2p.peer.id import ID
from libp2p.pubsub.gossipsub import PROTOCOL_ID, PROTOCOL_ID_V11, PROTOCOL_ID_V12, GossipSub
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.pubsub import Pubsub
from libp2p.pubsub.rpc_queue import RpcQueue
from libp2p.pubsub.score import PeerScorer, ScoreParams, TopicScoreParams
from libp2p.pubsub.validators import signature_validator
from libp2p.utils.varint import read_varint_prefixed_bytes_limited

from dms.network.libp2p.core import GuardedHost
from dms.network.protocol import Verdict

log = logging.getLogger(__name__)

HEARTBEAT_S = 1
MAX_RPC_BYTES = 1 << 20
MAX_CONTROL_ENTRIES = 256
"""Control entries, subscriptions and messages of each kind that one frame may carry."""
QUEUE_LENGTH = 128
"""Messages waiting for one peer; the library has 32 and drops the rest of a burst."""
PACE_WAIT_S = 0.5
"""How long one publish waits for a slow peer before that peer may lose the message."""
RETAIN_SCORE_S = 6 * 3600.0
MAX_RETAINED_SCORES = 4096

SCORES = ScoreParams(
    p1_time_in_mesh=TopicScoreParams(weight=0.00027, cap=1.0, decay=1.0),
    # After an hour of heartbeats a hundredth is left. The library subtracts this part, so the weight is positive.
    p4_invalid_messages=TopicScoreParams(weight=1000.0, cap=1e6, decay=0.01 ** (HEARTBEAT_S / 3600)),
    p5_behavior_penalty_weight=1.0,
    p5_behavior_penalty_decay=0.01 ** (HEARTBEAT_S / 3600),
    p5_behavior_penalty_threshold=6.0,
    p6_appl_slack_weight=1.0,
    publish_threshold=-1000.0,
    gossip_threshold=-500.0,
    graylist_threshold=-2500.0,
    accept_px_threshold=0.0,
)

Judge = Callable[[ID, str, bytes], Verdict]
Deliver = Callable[[str, ID, bytes], None]


class MeshRouter(GossipSub):
    """Who gets which message."""

    def __init__(self, app_score: Callable[[ID], float]) -> None:
        super().__init__(
            protocols=[PROTOCOL_ID_V12, PROTOCOL_ID_V11, PROTOCOL_ID],
            degree=6,
            degree_low=4,
            degree_high=12,
            heartbeat_interval=HEARTBEAT_S,
            do_px=True,
            adaptive_gossip_enabled=False,
            spam_protection_enabled=False,
            eclipse_protection_enabled=False,
        )
        self.scorer: PeerScorer = RetainingScorer(_with_app_score(app_score))

    async def heartbeat(self) -> None:
        """One beat a second; a failing one is not the last."""
        await trio.sleep(self.heartbeat_initial_delay)
        while True:
            try:
                await self._beat()
            except Exception as error:  # noqa: BLE001  the sets it walks may change under it
                log.debug("a heartbeat failed: %r", error)
            await trio.sleep(HEARTBEAT_S)

    async def _beat(self) -> None:
        grafts, prunes = self.mesh_heartbeat()
        self.fanout_heartbeat()
        gossip = self.gossip_heartbeat()
        # The library's own version of this sends every peer the grafts of all those before it, too.
        for peer in {*grafts, *prunes, *gossip}:
            control = self.pack_control_msgs(
                [rpc_pb2.ControlIHave(topicID=topic, messageIDs=ids) for topic, ids in gossip.get(peer, {}).items()],
                [rpc_pb2.ControlGraft(topicID=topic) for topic in grafts.get(peer, ())],
                [rpc_pb2.ControlPrune(topicID=topic) for topic in prunes.get(peer, ())],
            )
            await self.emit_control_message(control, peer)
        self.mcache.shift()
        self.scorer.on_heartbeat()
        self._periodic_security_cleanup()
        self._prune_idontwant_entries()
        # Only its adaptive mode empties this list of every message ever seen.
        self.recent_message_deliveries.clear()

    async def handle_rpc(self, rpc: rpc_pb2.RPC, sender_peer_id: ID) -> None:
        """Take control messages about topics we know, in bounded numbers."""
        control = rpc.control
        known = {*self.mesh, *self.fanout}
        for ihave in control.ihave[:MAX_CONTROL_ENTRIES]:
            if ihave.topicID in known and len(ihave.messageIDs) <= 16 * MAX_CONTROL_ENTRIES:
                await self.handle_ihave(ihave, sender_peer_id)
        for iwant in control.iwant[:MAX_CONTROL_ENTRIES]:
            if len(iwant.messageIDs) <= 16 * MAX_CONTROL_ENTRIES:
                await self.handle_iwant(iwant, sender_peer_id)
        for graft in control.graft[:MAX_CONTROL_ENTRIES]:
            if graft.topicID in known:  # the library's answer to others raises
                await self.handle_graft(graft, sender_peer_id)
        for prune in control.prune[:MAX_CONTROL_ENTRIES]:
            if prune.topicID in known:
                prune.backoff = min(prune.backoff, 3600)
                await self.handle_prune(prune, sender_peer_id)
        for idontwant in control.idontwant[:MAX_CONTROL_ENTRIES]:
            await self.handle_idontwant(idontwant, sender_peer_id)

    def _get_peers_to_send(
        self, topic_ids: Iterable[str], msg_forwarder: ID, origin: ID, msg_id: bytes | None = None
    ) -> Iterable[ID]:
        topics = list(topic_ids)
        if self.pubsub is None or msg_forwarder != self.pubsub.my_id:
            return super()._get_peers_to_send(topics, msg_forwarder, origin, msg_id)
        return {peer for topic in topics for peer in self.pubsub.peer_topics.get(topic, ())}

    async def _do_px(self, px_peers: list[rpc_pb2.PeerInfo]) -> None:
        # Dialling takes seconds; the stream that brought the offer goes on meanwhile.
        self.manager.run_task(super()._do_px, px_peers[: self.px_peers_count])


class RetainingScorer(PeerScorer):
    """Keeps what a peer did wrong for six hours: else reconnecting would wipe it off."""

    def __init__(self, params: ScoreParams) -> None:
        super().__init__(params)
        self._left: dict[ID, float] = {}

    def remove_peer(self, peer: ID) -> None:
        """The peer disconnected."""
        if not any(self.invalid_messages.get(peer, {}).values()):
            super().remove_peer(peer)
            return
        self._left.pop(peer, None)
        self._left[peer] = trio.current_time()
        while len(self._left) > MAX_RETAINED_SCORES:
            super().remove_peer(next(iter(self._left)))
            del self._left[next(iter(self._left))]

    def on_heartbeat(self, dt_seconds: float = 1.0) -> None:
        """Let scores fade, and forget the old ones."""
        super().on_heartbeat(dt_seconds)
        horizon_s = trio.current_time() - RETAIN_SCORE_S
        for peer in [peer for peer, left_s in self._left.items() if left_s < horizon_s]:
            del self._left[peer]
            super().remove_peer(peer)


class GuardedPubsub(Pubsub):
    """What is a message, whether it is valid, and to whom it is delivered here."""

    def __init__(
        self, host: GuardedHost, router: MeshRouter, *, judge: Judge, deliver: Deliver, counters: Counter[str]
    ) -> None:
        super().__init__(host, router, strict_signing=True, max_inbound_rpc_size=MAX_RPC_BYTES)
        self.router: MeshRouter = router
        self._judge = judge
        self._deliver = deliver
        self._counters = counters
        # Its sweeping thread would outlive us, one for every host of the process; a task of ours sweeps instead.
        self.seen_messages._stop_event.set()  # noqa: SLF001

    async def run(self) -> None:
        """The library's tasks, and the sweep of the messages seen."""
        self.manager.run_task(self._sweep_seen)
        await super().run()

    async def _sweep_seen(self) -> None:
        while True:
            await trio.sleep(self.seen_messages.sweep_interval)
            self.seen_messages._sweep()  # noqa: SLF001

    # in --------------------------------------------------------------------------------------------------------------

    async def continuously_read_stream(self, stream: INetStream) -> None:
        """Take the frames of one peer until its stream ends or one cannot be parsed."""
        peer = stream.muxed_conn.peer_id
        try:
            while self.manager.is_running:
                frame = await read_varint_prefixed_bytes_limited(stream, self.max_inbound_rpc_size)
                rpc = rpc_pb2.RPC()
                rpc.ParseFromString(frame)
                await self._take(peer, rpc)
        except (DecodeError, ParseError, MessageTooLarge, ValueError) as error:
            self._counters["gossip frames malformed"] += 1
            log.debug("malformed gossip frame of %s: %r", peer, error)
            await stream.reset()
        except (IOException, StreamError):
            await stream.close()

    async def _take(self, peer: ID, rpc: rpc_pb2.RPC) -> None:
        if max(len(rpc.publish), len(rpc.subscriptions)) > MAX_CONTROL_ENTRIES:
            raise ParseError("too many entries in one frame")
        for option in rpc.subscriptions:
            if len(option.topicid) <= 256:
                self.handle_subscription(peer, option)
        for message in rpc.publish:
            if self._is_subscribed_to_msg(message):
                await self.push_msg(peer, message)
        if rpc.HasField("control"):
            await self.router.handle_rpc(rpc, peer)

    async def push_msg(self, msg_forwarder: ID, msg: rpc_pb2.Message) -> None:
        """Judge a message, deliver it here and pass it on."""
        if len(msg.topicIDs) != 1 or self._is_msg_seen(msg):
            return
        topic = msg.topicIDs[0]
        origin = ID(msg.from_id)
        if msg_forwarder != self.my_id:
            verdict = self._verdict(msg_forwarder, origin, topic, msg)
            self._counters[f"gossip in: {verdict.value}"] += 1
            if verdict is Verdict.REJECT:
                self.router.scorer.on_invalid_message(msg_forwarder, topic)
                return
            if verdict is Verdict.IGNORE:
                self._mark_msg_seen(msg)
                return
            self.router.scorer.on_first_delivery(msg_forwarder, topic)
        self._mark_msg_seen(msg)
        self._deliver(topic, origin, msg.data)
        await self.router.publish(msg_forwarder, msg)

    def _verdict(self, forwarder: ID, origin: ID, topic: str, msg: rpc_pb2.Message) -> Verdict:
        if not self.router.scorer.allow_publish(forwarder, [topic]) or origin == self.my_id:
            return Verdict.IGNORE
        try:
            if not signature_validator(msg):
                return Verdict.REJECT
        except Exception:  # noqa: BLE001  keys of any shape arrive here
            return Verdict.REJECT
        return self._judge(forwarder, topic, msg.data)

    async def join(self, topic: str) -> None:
        """Subscribe; messages come to ``deliver``, so the library's own queue of 32 stays empty."""
        await self.subscribe(topic)

    # out -------------------------------------------------------------------------------------------------------------

    async def publish_paced(self, topic: str, data: bytes) -> None:
        """Publish once the peers have taken what was published before."""
        deadline_s = trio.current_time() + PACE_WAIT_S
        while self._is_congested() and trio.current_time() < deadline_s:  # noqa: ASYNC110  the queues tell nobody
            await trio.sleep(0.005)
        await self.publish(topic, data)

    def _is_congested(self) -> bool:
        return any(len(queue) >= QUEUE_LENGTH // 2 for queue in self.peer_queues.values())

    async def _handle_new_peer(self, peer_id: ID) -> None:
        """Open our stream to a peer; one left over from an earlier connection does not count.

        The library keeps a peer that goes away while it is being added, and then takes it for added when it comes back.
        """
        before = self.peers.get(peer_id)
        if before is not None and before.muxed_conn.is_closed:
            self._handle_dead_peer(peer_id)
        await super()._handle_new_peer(peer_id)
        after = self.peers.get(peer_id)
        if after is not None and after.muxed_conn.is_closed:
            self._handle_dead_peer(peer_id)

    async def handle_sending_messages(self, peer_id: ID, stream: INetStream, queue: RpcQueue) -> None:
        """Send what waits for one peer."""
        queue._queue.max_size = QUEUE_LENGTH  # noqa: SLF001
        await super().handle_sending_messages(peer_id, stream, queue)


def _with_app_score(app_score: Callable[[ID], float]) -> ScoreParams:
    def bounded(peer: ID) -> float:
        score = app_score(peer)
        return score if math.isfinite(score) else 0.0

    values = {**vars(SCORES), "app_specific_score_fn": bounded}
    return ScoreParams(**values)
