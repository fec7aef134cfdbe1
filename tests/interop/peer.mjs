// A js-libp2p node that the interop tests drive. Every line of standard input is a command, {"id", "do", …}; every line of
// standard output is its answer, {"id", …} or {"id", "error"}, or something that happened, {"event", …}. It ends with its
// standard input. Bytes are written in hexadecimal.
//
//   node peer.mjs [--seed HEX] [--swarm-key FILE] [--relay] [--alone] [--hole-punching] [--dht-protocol ID]
import './polyfill.mjs'
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { parseArgs } from 'node:util'
import { autoNAT } from '@libp2p/autonat'
import { circuitRelayServer, circuitRelayTransport } from '@libp2p/circuit-relay-v2'
import { generateKeyPairFromSeed } from '@libp2p/crypto/keys'
import { dcutr } from '@libp2p/dcutr'
import { gossipsub } from '@libp2p/gossipsub'
import { identify, identifyPush } from '@libp2p/identify'
import { kadDHT, passthroughMapper } from '@libp2p/kad-dht'
import { noise } from '@libp2p/noise'
import { peerIdFromString } from '@libp2p/peer-id'
import { ping } from '@libp2p/ping'
import { preSharedKey } from '@libp2p/pnet'
import { tcp } from '@libp2p/tcp'
import { yamux } from '@libp2p/yamux'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'
import { CID } from 'multiformats/cid'

const PATIENCE_MS = 15_000
const HEADER_BYTES = 8
const RELAYED = { runOnLimitedConnection: true }

const { values: options } = parseArgs({
  options: {
    seed: { type: 'string' }, // of its key, whose id it has
    'swarm-key': { type: 'string' },
    'dht-protocol': { type: 'string', default: '/nunet/kad/1.0.0' },
    alone: { type: 'boolean', default: false }, // nothing that makes others dial it, or makes it dial by itself
    'hole-punching': { type: 'boolean', default: false },
    relay: { type: 'boolean', default: false }
  }
})

const say = (line) => process.stdout.write(JSON.stringify(line) + '\n')
const toHex = (bytes) => Buffer.from(bytes).toString('hex')
const fromHex = (text) => Buffer.from(text, 'hex')
const patience = () => AbortSignal.timeout(PATIENCE_MS)
const textOf = (error) => [error.name, error.message, ...(error.errors ?? []).map((one) => one.message)].join(': ')

const accept = async () => {}
const node = await createLibp2p({
  ...(options.seed && { privateKey: await generateKeyPairFromSeed('Ed25519', fromHex(options.seed)) }),
  addresses: { listen: ['/ip4/127.0.0.1/tcp/0'] },
  transports: [tcp(), circuitRelayTransport()],
  connectionEncrypters: [noise()],
  streamMuxers: [yamux()],
  connectionGater: { denyDialMultiaddr: () => false }, // else it dials no loopback address
  connectionMonitor: { enabled: false },
  ...(options['swarm-key'] && { connectionProtector: preSharedKey({ psk: readFileSync(options['swarm-key']) }) }),
  services: {
    identify: identify(),
    identifyPush: identifyPush(),
    ping: ping({ maxOutboundStreams: 8 }), // its hash table pings, too
    gossip: gossipsub({
      allowPublishToZeroTopicPeers: true,
      emitSelf: false,
      globalSignaturePolicy: 'StrictSign',
      scoreParams: { IPColocationFactorWeight: 0 } // all nodes of a test have one address
    }),
    ...(!options.alone && {
      autoNAT: autoNAT(),
      dht: kadDHT({
        protocol: options['dht-protocol'],
        clientMode: false,
        allowQueryWithZeroPeers: true,
        peerInfoMapper: passthroughMapper, // else loopback addresses are left out
        validators: { 'nunet-dht-1': accept },
        selectors: { 'nunet-dht-1': () => 0 }
      })
    }),
    ...(options['hole-punching'] && { dcutr: dcutr() }),
    ...(options.relay && { relay: circuitRelayServer({ reservations: { applyDefaultLimit: false } }) })
  }
})

node.addEventListener('peer:identify', ({ detail }) =>
  say({ event: 'identified', peer: String(detail.peerId), agent: detail.agentVersion, protocols: detail.protocols, addresses: detail.listenAddrs.map(String) }))
node.addEventListener('peer:disconnect', ({ detail }) => say({ event: 'disconnected', peer: String(detail) }))
node.services.gossip.addEventListener('message', ({ detail }) =>
  say({ event: 'broadcast', topic: detail.topic, from: String(detail.from), signed: detail.type === 'signed', data: toHex(detail.data) }))

// To the length that it announces, not to its end: js-libp2p loses an end that comes together with the data.
async function readFrame (stream) {
  const parts = []
  let missing = HEADER_BYTES
  let announced = 0
  for await (const part of stream) {
    parts.push(Buffer.from(part.subarray()))
    missing -= part.byteLength
    if (announced === 0 && missing <= 0) {
      announced = Number(Buffer.concat(parts).readBigUInt64LE())
      missing += announced
    }
    if (announced > 0 && missing <= 0) break
  }
  return { announced, data: Buffer.concat(parts).subarray(HEADER_BYTES) }
}

async function write (stream, bytes) {
  for (let at = 0; at < bytes.length; at += 65_536) {
    if (!stream.send(bytes.subarray(at, at + 65_536))) await stream.onDrain()
  }
}

async function receive (stream, connection) {
  const told = { from: String(connection.remotePeer), protocol: stream.protocol }
  try {
    const { announced, data } = await readFrame(stream)
    const sha256 = createHash('sha256').update(data).digest('hex')
    say({ event: 'message', ...told, announced, bytes: data.length, sha256 })
    await stream.close()
  } catch (error) {
    say({ event: 'failed', ...told, error: textOf(error) })
  }
}

const eventsOf = async (query) => {
  const events = []
  for await (const event of query) events.push(event)
  return events
}

const commands = {
  dial: async ({ address }) => {
    const connection = await node.dial(multiaddr(address), { signal: patience() })
    return {
      peer: String(connection.remotePeer),
      relayed: connection.limits != null || String(connection.remoteAddr).includes('/p2p-circuit'),
      encryption: connection.encryption,
      multiplexer: connection.multiplexer
    }
  },
  hangUp: async ({ peer }) => { await node.hangUp(peerIdFromString(peer)) },
  connections: async ({ peer }) => ({
    connections: node.getConnections(peerIdFromString(peer)).map((one) => ({ address: String(one.remoteAddr), inbound: one.direction === 'inbound' }))
  }),
  ping: async ({ peer }) => ({ ms: await node.services.ping.ping(peerIdFromString(peer), { signal: patience(), ...RELAYED }) }),
  handle: async ({ protocol }) => { await node.handle(protocol, receive, RELAYED) },
  send: async ({ peer, protocol, bytes, fill }) => {
    const data = Buffer.alloc(bytes, fill)
    const header = Buffer.alloc(HEADER_BYTES)
    header.writeBigUInt64LE(BigInt(bytes))
    const stream = await node.dialProtocol(peerIdFromString(peer), protocol, { signal: patience(), ...RELAYED })
    await write(stream, Buffer.concat([header, data]))
    await stream.close()
  },
  subscribe: async ({ topic }) => { node.services.gossip.subscribe(topic) },
  subscribers: async ({ topic }) => ({ peers: node.services.gossip.getSubscribers(topic).map(String) }),
  publish: async ({ topic, data }) => {
    const { recipients } = await node.services.gossip.publish(topic, fromHex(data))
    return { recipients: recipients.map(String) }
  },
  put: async ({ key, value }) => ({ events: (await eventsOf(node.services.dht.put(fromHex(key), fromHex(value), { signal: patience() }))).map((one) => one.name) }),
  get: async ({ key }) => {
    const found = (await eventsOf(node.services.dht.get(fromHex(key), { signal: patience() }))).filter((one) => one.name === 'VALUE')
    return { values: found.map((one) => toHex(one.value)) }
  },
  provide: async ({ cid }) => ({ events: (await eventsOf(node.services.dht.provide(CID.parse(cid), { signal: patience() }))).map((one) => one.name) }),
  providers: async ({ cid }) => {
    const found = (await eventsOf(node.services.dht.findProviders(CID.parse(cid), { signal: patience() }))).filter((one) => one.name === 'PROVIDER')
    return { peers: found.flatMap((one) => one.providers.map((provider) => String(provider.id))) }
  },
  findPeer: async ({ peer }) => {
    const found = (await eventsOf(node.services.dht.findPeer(peerIdFromString(peer), { signal: patience() }))).filter((one) => one.name === 'FINAL_PEER')
    return { addresses: found.flatMap((one) => one.peer.multiaddrs.map(String)) }
  },
  reserve: async ({ address }) => {
    await node.components.transportManager.listen([multiaddr(`${address}/p2p-circuit`)])
    return { addresses: node.getMultiaddrs().map(String) }
  },
  addresses: async () => ({ addresses: node.getMultiaddrs().map(String) })
}

async function obey (line) {
  const command = JSON.parse(line)
  try {
    say({ id: command.id, ...(await commands[command.do](command)) })
  } catch (error) {
    say({ id: command.id, error: textOf(error) })
  }
}

const lines = createInterface({ input: process.stdin })
lines.on('line', obey)
lines.on('close', () => process.exit(0))
say({ event: 'ready', peer: String(node.peerId), addresses: node.getMultiaddrs().map(String) })
