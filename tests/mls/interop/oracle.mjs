// Members of groups as ts-mls has them: one command a line in, one answer a line out, JSON with bytes as hex.

import { createInterface } from "node:readline"
import {
  acceptAll,
  createApplicationMessage,
  createCommit,
  createGroup,
  decodeMlsMessage,
  emptyPskIndex,
  encodeMlsMessage,
  generateKeyPackage,
  getCiphersuiteFromName,
  getCiphersuiteImpl,
  joinGroup,
  processMessage,
} from "ts-mls"

const SUITE = "MLS_128_DHKEMX25519_CHACHA20POLY1305_SHA256_Ed25519"
const suite = await getCiphersuiteImpl(getCiphersuiteFromName(SUITE))
const packages = new Map()
const states = new Map()
const pending = new Map()

const toHex = (bytes) => Buffer.from(bytes).toString("hex")
const fromHex = (hex) => Uint8Array.from(Buffer.from(hex, "hex"))
const text = (string) => new TextEncoder().encode(string)
const envelope = (wireformat, name, value) => toHex(encodeMlsMessage({ version: "mls10", wireformat, [name]: value }))
const open = (hex) => decodeMlsMessage(fromHex(hex), 0)[0]

const commands = {
  async package({ name }) {
    const capabilities = { versions: ["mls10"], ciphersuites: [SUITE], extensions: [], proposals: [], credentials: ["basic"] }
    const now = BigInt(Math.floor(Date.now() / 1000))
    const lifetime = { notBefore: now - 3600n, notAfter: now + 86400n }
    const credential = { credentialType: "basic", identity: text(name) }
    const made = await generateKeyPackage(credential, capabilities, lifetime, [], suite)
    packages.set(name, made)
    return { package: envelope("mls_key_package", "keyPackage", made.publicPackage) }
  },
  async create({ name, group }) {
    const { publicPackage, privatePackage } = packages.get(name)
    states.set(name, await createGroup(fromHex(group), publicPackage, privatePackage, [], suite))
    return {}
  },
  async join({ name, welcome }) {
    const { publicPackage, privatePackage } = packages.get(name)
    states.set(name, await joinGroup(open(welcome).welcome, publicPackage, privatePackage, emptyPskIndex, suite))
    return {}
  },
  async commit({ name, add, remove, data }) {
    const extraProposals = [
      ...remove.map((removed) => ({ proposalType: "remove", remove: { removed } })),
      ...add.map((each) => ({ proposalType: "add", add: { keyPackage: open(each).keyPackage } })),
    ]
    const options = {
      extraProposals,
      wireAsPublicMessage: true,
      ratchetTreeExtension: true,
      authenticatedData: fromHex(data),
    }
    const made = await createCommit({ state: states.get(name), cipherSuite: suite }, options)
    pending.set(name, made.newState)
    const welcome = made.welcome === undefined ? "" : envelope("mls_welcome", "welcome", made.welcome)
    return { commit: toHex(encodeMlsMessage(made.commit)), welcome }
  },
  async take({ name }) {
    states.set(name, pending.get(name))
    return {}
  },
  async process({ name, message }) {
    const result = await processMessage(open(message), states.get(name), emptyPskIndex, acceptAll, suite)
    states.set(name, result.newState)
    const removed = result.newState.groupActiveState.kind === "removedFromGroup"
    return { removed, data: result.kind === "applicationMessage" ? toHex(result.message) : "" }
  },
  async encrypt({ name, data }) {
    const made = await createApplicationMessage(states.get(name), fromHex(data), suite)
    states.set(name, made.newState)
    return { message: envelope("mls_private_message", "privateMessage", made.privateMessage) }
  },
  async state({ name }) {
    const { groupContext, keySchedule } = states.get(name)
    return {
      epoch: Number(groupContext.epoch),
      authenticator: toHex(keySchedule.epochAuthenticator),
      tree_hash: toHex(groupContext.treeHash),
    }
  },
}

for await (const line of createInterface({ input: process.stdin })) {
  let answer
  try {
    const command = JSON.parse(line)
    answer = await commands[command.op](command)
  } catch (error) {
    answer = { error: `${error.name}: ${error.message}` }
  }
  process.stdout.write(JSON.stringify(answer) + "\n")
}
