// js-libp2p is written for Node 22; what it uses and older ones lack. Imported before anything else.
import { webcrypto } from 'node:crypto'

globalThis.crypto ??= webcrypto
globalThis.CustomEvent ??= class CustomEvent extends Event {
  constructor (type, options = {}) {
    super(type, options)
    this.detail = options.detail ?? null
  }
}
Promise.withResolvers ??= function () {
  const parts = {}
  parts.promise = new this((resolve, reject) => Object.assign(parts, { resolve, reject }))
  return parts
}
Array.fromAsync ??= async function (items, change = (item) => item) {
  const made = []
  for await (const item of items) made.push(await change(item))
  return made
}
