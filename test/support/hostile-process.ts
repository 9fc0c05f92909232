import { setTimeout as sleep } from "node:timers/promises";
import { generateKeyPair } from "@libp2p/crypto/keys";
import type { Connection, Stream } from "@libp2p/interface";
import { peerIdFromPrivateKey } from "@libp2p/peer-id";
import { openHashEngine } from "../../node/hasher.ts";
import { loadNetworkKey, networkPrologue } from "../../node/keys.ts";
import { FolderRepository } from "../../node/origins/folder-origin.ts";
import { FrameStream } from "../../node/swarm/frame-stream.ts";
import { type ProtocolName, protocols } from "../../node/swarm/protocols.ts";
import { digestHoldings } from "../../protocol/announcement.ts";
import { parseVariantHash } from "../../protocol/hash.ts";
import { ItemGroups } from "../../protocol/item-groups.ts";
import { holdingsPerPeerMax, pairsPerFrameMax } from "../../protocol/limits.ts";
import { decodeDirectoryAsk, decodeSwarm, encodeMessage, type Message } from "../../protocol/messages.ts";
import type { RegisterAnswer } from "../../protocol/register-messages.ts";
import {
  decodeRegisterQuestion,
  decodeRegisterReply,
  encodeRegisterQuestion,
  encodeRegisterReply,
} from "../../protocol/register-wire.ts";
import { registrarsFor } from "../../protocol/registrars.ts";
import { encodeFrameHead } from "../../protocol/wire.ts";
import { releasedAt } from "./lies.ts";
import { noise } from "./noise.ts";
import { announced, RawGossiper } from "./raw-gossiper.ts";
import { RawPeer, rightHello } from "./raw-peer.ts";

/** What a process is told that speaks the protocol wrongly, as JSON in its first argument. */
export interface RawOrders {
  readonly behaviour: RawBehaviour;
  readonly originPath: string;
  readonly keyFile: string;
  readonly variant: string;
  /** Addresses of the honest nodes: all of them are dialled. */
  readonly victims: readonly string[];
}

export type RawBehaviour =
  | "slow-loris"
  | "oversize frames"
  | "stream floods"
  | "connect and say nothing"
  | "announcements of a million variants"
  | "join and leave"
  | "leases taken and not used"
  | "false registrar answers";

const orders = JSON.parse(process.argv[2]!) as RawOrders;
const { hash } = openHashEngine();
const origin = await FolderRepository.open({ name: "origin", path: orders.originPath, network: "test" });
const released = await releasedAt(origin, parseVariantHash(orders.variant), hash);
const prologue = networkPrologue(await loadNetworkKey(orders.keyFile), "test");
const gossiper = await openFirst();
const raw = gossiper.peer;
const ids = [gossiper.id];

await serveAll();
const connections = await Promise.all(orders.victims.map((address) => enter(address)));
await begin();
process.stdout.write(`${ids.join(" ")}\n`);
// It claims what everybody wants.
const holdsNothing: readonly RawBehaviour[] = [
  "announcements of a million variants",
  "leases taken and not used",
  "false registrar answers",
];
if (!holdsNothing.includes(orders.behaviour)) {
  await gossiper.say(await announced(gossiper.key, [[released.variant, released.record.payload]], { network: "test" }));
}

/** A host whose name makes it the first registrar of the payload: names are free. */
async function openFirst(): Promise<RawGossiper> {
  const others = orders.victims.map((address) => ({ name: address.split("/p2p/")[1]!, upSinceMs: 0 }));
  for (;;) {
    const key = await generateKeyPair("Ed25519");
    const name = peerIdFromPrivateKey(key).toString();
    const [first] = registrarsFor(released.record.payload, [...others, { name, upSinceMs: 0 }], 0);
    if (first === name) return await RawGossiper.open({ network: "test", prologue, key });
  }
}

async function enter(address: string, peer = raw): Promise<Connection> {
  const connection = await peer.dial({ addresses: () => [address] });
  await peer.hello(connection, { ...rightHello, network: "test", name: orders.behaviour });
  return connection;
}

/** What it does to those who ask it something. */
async function serveAll(): Promise<void> {
  for (const name of ["swarm", "catalog", "directory", "register"] as const) {
    const serve = serverOf(name);
    await raw.host.handle(protocols[name].id, (stream) => serve(stream), { maxInboundStreams: 64 });
  }
}

function serverOf(name: ProtocolName): (stream: Stream) => void {
  switch (orders.behaviour) {
    case "slow-loris":
      return (stream) => sip(name, stream);
    case "oversize frames":
      return (stream) => void stream.send(new Uint8Array([0, 0, 0, 1, 255, 255, 255, 255]));
    case "announcements of a million variants":
      return (stream) => void (name === "directory" ? tellOfAMillion(stream) : stream.close());
    case "false registrar answers":
      return (stream) => void (name === "register" ? mislead(stream) : stream.close());
    case "leases taken and not used":
      return (stream) => void stream.close();
    case "stream floods":
    case "connect and say nothing":
    case "join and leave":
      return () => undefined;
  }
}

async function begin(): Promise<void> {
  switch (orders.behaviour) {
    case "oversize frames":
      for (const connection of connections) {
        for (const name of ["swarm", "catalog", "directory"] as const) {
          (await raw.stream(connection, name)).send(new Uint8Array([255, 255, 255, 255, 0, 0, 0, 0]));
        }
      }
      return;
    case "stream floods":
      for (const connection of connections) void floodWithStreams(connection);
      return;
    case "connect and say nothing": {
      // Another one does not even say hello.
      const mute = await RawPeer.open(prologue);
      ids.push(mute.host.peerId.toString());
      for (const address of orders.victims) await mute.dial({ addresses: () => [address] });
      return;
    }
    case "announcements of a million variants":
      // One that nobody may believe, and one whose list is asked for.
      await gossiper.say(await announced(gossiper.key, [], { network: "test", count: 1_000_000 }));
      return void (await gossiper.say(await large()));
    case "join and leave":
      void comeAndGo();
      return;
    case "leases taken and not used":
      for (const connection of connections) void takeLeases(connection);
      return;
    case "slow-loris":
    case "false registrar answers":
      return;
  }
}

/** Asks a registrar for leases, says that it has them, and does nothing else. */
async function takeLeases(connection: Connection): Promise<void> {
  const { record, items } = released;
  const { count: groups } = new ItemGroups({ segments: record.root.segments.length, items, bytes: record.root.bytes });
  const frames = new FrameStream(await raw.stream(connection, "register"), protocols.register.answers);
  let leases: RegisterAnswer["leases"] = [];
  frames.listen(
    ({ header }) => {
      leases = decodeRegisterReply(header)?.answer?.leases ?? leases;
    },
    () => undefined,
  );
  while (connection.status === "open") {
    const question = {
      ...{
        groups,
        site: "",
        held: new Uint8Array(Math.ceil(groups / 8)),
        isFarOnly: false,
        isReady: true,
        lacking: [],
        seeks: true,
      },
      ...{ leases: leases.map(({ group }) => ({ group, arrived: 0 })), wants: 2 - leases.length },
    };
    await frames.send(encodeRegisterQuestion(record.payload, question)).catch(() => undefined);
    await sleep(200);
  }
}

/** Leases what there is not. */
function mislead(stream: Stream): void {
  const frames = new FrameStream(stream, protocols.register.asks);
  frames.listen(
    ({ header }) => {
      const asked = decodeRegisterQuestion(header);
      if (asked === undefined) return;
      const answer = {
        peers: [],
        leases: [{ group: 9_999, from: "origin" as const }],
        leaseMs: 2_500,
        retryAfterMs: 1_000,
      };
      void frames.send(encodeRegisterReply({ payload: asked.payload, answer })).catch(() => undefined);
    },
    () => undefined,
  );
}

/** Bytes one by one: heads of pieces and of records, and what belongs to them. */
function sip(name: ProtocolName, stream: Stream): void {
  const frames = new FrameStream(stream, protocols[name].asks);
  const drip = (message: Message, bodyBytes: number) => {
    const bytes = new Uint8Array([...encodeFrameHead(encodeMessage(message), bodyBytes), ...new Uint8Array(10_000)]);
    let at = 0;
    const timer = setInterval(() => {
      if (stream.status !== "open" || at >= bytes.length) clearInterval(timer);
      else stream.send(bytes.subarray(at, ++at));
    }, 20);
  };
  frames.listen(
    ({ header }) => {
      if (name === "catalog") return drip({ kind: "record" }, 10_000);
      const asked = decodeSwarm(header);
      if (asked?.kind === "join") void frames.send({ kind: "joined", number: asked.number, all: true });
      if (asked?.kind !== "request" && asked?.kind !== "take") return;
      drip({ kind: "piece", number: asked.number, item: asked.items[0]! }, 500_000);
    },
    () => undefined,
  );
}

/** As many streams as go out, and as many joins on those that are taken. */
async function floodWithStreams(connection: Connection): Promise<void> {
  const { payload } = released.record;
  let number = 0;
  while (connection.status === "open") {
    try {
      const opened = await raw.stream(connection, number % 2 === 0 ? "swarm" : "catalog");
      const frames = new FrameStream(opened, protocols.swarm.answers);
      frames.listen(
        () => undefined,
        () => undefined,
      );
      for (let i = 0; i < 100; i++)
        void frames.send({ kind: "join", number: ++number, payload }).catch(() => undefined);
    } catch {
      await sleep(1);
    }
    number++;
    await new Promise(setImmediate);
  }
}

function large(): Promise<Uint8Array> {
  const digest = digestHoldings(noise(8, 64), hash);
  return announced(gossiper.key, [], { network: "test", count: holdingsPerPeerMax, sequence: 1, digest });
}

/** Answers a question about the directory with pairs without end. */
async function tellOfAMillion(stream: Stream): Promise<void> {
  const frames = new FrameStream(stream, protocols.directory.asks);
  const pairs = noise(7, 64 * pairsPerFrameMax);
  const answer = async (header: Uint8Array) => {
    if (decodeDirectoryAsk(header)?.kind === "want-heads") {
      await frames.send({ kind: "heads", heads: [{ envelope: await large(), remainingMs: 60_000 }] });
      return await frames.send({ kind: "end" });
    }
    for (let at = 0; at < 1_000_000; at += pairsPerFrameMax) await frames.send({ kind: "pairs" }, pairs);
  };
  frames.listen(
    ({ header }) => void answer(header).catch(() => undefined),
    () => undefined,
  );
}

/** Every two seconds it is here, and a second later it has gone. */
async function comeAndGo(): Promise<void> {
  for (;;) {
    await sleep(1_000);
    for (const connection of raw.host.getConnections()) await connection.close().catch(() => undefined);
    await sleep(1_000);
    for (const address of orders.victims) await enter(address).catch(() => undefined);
  }
}
