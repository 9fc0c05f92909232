import * as z from "zod";
import { UsageError } from "../../protocol/errors.ts";
import { isPathPart } from "../../protocol/variant.ts";
import { explain } from "./explain.ts";
import {
  about,
  addresses,
  choice,
  count,
  deadline,
  duration,
  fileMode,
  flag,
  key,
  label,
  listMax,
  path,
  paths,
  pathText,
  positiveRate,
  publicKeys,
  rate,
  reading,
  size,
  splitOnce,
  toolsetKeys,
} from "./kinds.ts";
import { suggestion } from "./nearest.ts";
import type { ClassRates, OriginSettings, SettingKey, Settings } from "./schema.ts";

/** Every key in the order of CONTRACTS, then the fields of an `[[origin]]`. */
export function settingKeys(): readonly SettingKey[] {
  return [...keysByName.values()];
}

/** What is known about a key, that of any one repository included; `undefined` for an unknown key. */
export function settingKey(name: string): SettingKey | undefined {
  return keysByName.get(name.startsWith("repositories.") ? "repositories.<id>" : name);
}

/**
 * Checks all values together and gives them their types.
 * @param values by key as in `settingKeys`, defaults filled in and paths absolute; `origin` is the list of tables.
 * @param sourceOf where the value of a key comes from, for messages: `/etc/p2pcache/config.toml`.
 * @throws {UsageError} about the first value that breaks a rule, with how it is written.
 */
export function parseValues(values: ReadonlyMap<string, unknown>, sourceOf: (key: string) => string): Settings {
  const tree = treeOf(values);
  const result = schema.safeParse(tree);
  if (!result.success) throw explain(result.error.issues[0]!, tree, keysByName, sourceOf);
  return toSettings(result.data);
}

const origin = z
  .strictObject({
    name: label({ text: "origin, origin2, …" }, "Name in messages and in publish.origin; unique.").optional(),
    kind: choice(["folder", "http"], { text: "required" }, "A directory, or a static HTTP(S) server."),
    path: path({ text: "required for a folder" }, "The repository's directory.").optional(),
    url: key(
      z.string().refine(isOriginUrl),
      "text",
      { noun: "an address of a server without query", example: '"https://packages.example/p2pcache"' },
      { text: "required for http" },
      "The repository's address.",
    ).optional(),
    ca_file: path(
      { text: "the authorities that Node knows" },
      "Certificates (PEM) of the authorities that are believed in place of Node's own; http only.",
    ).optional(),
    credentials_file: path(
      { text: "none" },
      "File of one line, basic user:password or bearer TOKEN, that only its owner may read; http only.",
    ).optional(),
    policy: choice(
      ["auto", "limited", "never"],
      { value: "auto" },
      "When it may be asked: as the swarm plans it, the same within slots and rate of the site, or never.",
    ).default("auto"),
    slots: count(
      { text: "every node" },
      "Of limited: how many nodes of a site read chunks from it at a time.",
    ).optional(),
    rate: rate({ text: "unlimited" }, "Of limited: what the nodes of a site take from it together.").optional(),
    in_place: flag(true, "Whether chunks may be read from the releases themselves; folders only.").default(true),
  })
  .superRefine((value, context) => {
    const files = value.kind === "folder" ? (["ca_file", "credentials_file"] as const) : [];
    const named = files.find((key) => value[key] !== undefined);
    if (named !== undefined) context.addIssue({ code: "custom", params: { fault: `kind folder has no ${named}` } });
    const [needed, strange] = value.kind === "folder" ? (["path", "url"] as const) : (["url", "path"] as const);
    const fault = value[needed] === undefined ? `needs ${needed}` : `has no ${strange}`;
    if (value[needed] !== undefined && value[strange] === undefined) return;
    context.addIssue({ code: "custom", params: { fault: `kind ${value.kind} ${fault}` } });
  });

const schema = z.strictObject({
  network: z.strictObject({
    name: key(
      z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/),
      "text",
      { noun: "a name of up to 63 letters, digits, dots, dashes and underscores", example: '"studio"' },
      { text: "required" },
      "Nodes of other networks are refused.",
    ).optional(),
    key_file: path({ text: "none" }, "Shared key (p2pcache key network), mixed into the handshake.").optional(),
    admission: choice(
      ["key", "members", "open"],
      { value: "key" },
      "Who gets in: holders of the shared key, members by policy, or anybody.",
    ),
  }),
  node: z.strictObject({
    name: label({ text: "the host name" }, "Shown to people."),
    listen: addresses(["/ip4/0.0.0.0/tcp/0"], "Where peers can reach this node."),
    bootstrap: addresses([], "Nodes that are dialled first."),
    mdns: flag(true, "Whether neighbours are looked for by multicast DNS."),
    announce_loopback: flag(false, "Whether loopback addresses are announced: for several nodes on one machine."),
    site: label({ value: "" }, "Label: nodes of one site prefer each other."),
    rack: label({ value: "" }, "Label: nodes of one rack prefer each other."),
    state: path(
      { text: "$STATE_DIRECTORY or $XDG_STATE_HOME/p2pcache" },
      "Directory of the node's key, index and logs.",
    ),
    socket: path({ text: "derived from cache.path" }, "Unix socket of the local API; admin.sock stands beside it."),
    lanes: key(
      z.union([z.literal("auto"), z.int().min(0).max(64)]),
      "count",
      { noun: "a number of lanes up to 64", example: '4, 0 for none, or "auto"' },
      { value: "auto" },
      "Connections for bulk bytes, worker thread to worker thread.",
    ),
    lane_ports: key(
      reading(readPorts),
      "text",
      { noun: "a range of ports", example: '"40000-40063" or "any"' },
      { value: "any" },
      "Ports that lanes listen at.",
    ),
    encryption: choice(["on", "off"], { value: "on" }, "Whether bulk bytes are encrypted on their way."),
    log_level: choice(["debug", "info", "warn", "error"], { value: "info" }, "What matters less is not logged."),
  }),
  cache: z.strictObject({
    path: path({ text: "$CACHE_DIRECTORY or $XDG_CACHE_HOME/p2pcache" }, "The cache: Rez's cache_packages_path."),
    max_bytes: size({ text: "80 % of the disk" }, "Most that the cache takes.").optional(),
    max_variants: count({ text: "no limit" }, "Most variants in the cache.").optional(),
    max_age: duration({ text: "no limit" }, "A variant that was not used for longer goes.").optional(),
    free_bytes_min: size({ text: "5 % of the disk" }, "What is always left free on the disk.").optional(),
    pinned_bytes_max: size({ text: "80 % of cache.max_bytes" }, "Most that keep-alive lists and pins hold.").optional(),
    min_idle: duration({ value: "24 h" }, "A variant that was used within this time stays."),
    scrub_period: duration(
      { value: "30 d" },
      "In which time all that is held is hashed again, idly; 0: never. What is damaged is repaired.",
    ),
    index_mode: fileMode({ value: "0666" }, "Mode of Rez's index files."),
    chain: paths([], "Further caches, read only, in order."),
  }),
  repositories: key(
    z.record(z.string().refine(isPathPart), pathText()),
    "path",
    { noun: "a path for a repository's id", example: '[repositories] studio = "/mnt/sw/packages"' },
    { text: "none" },
    "Where this machine mounts the repository <id>; links are resolved.",
  ),
  local_packages: paths(["~/packages"], "Paths whose packages are never cached."),
  origin: key(
    z.array(origin).max(listMax),
    "tables",
    { noun: "a list of tables", example: '[[origin]] kind = "folder", path = "/mnt/sw/p2pcache"' },
    { value: [] },
    "Repositories of last resort, in order of preference.",
  ),
  transfer: z.strictObject({
    peers: choice(["auto", "never"], { value: "auto" }, "Whether peers are dialled, served and told anything."),
    timeout: deadline({ value: "30 min" }, "Deadline of one fetch."),
    up: classRates("What is sent to peers, for each class by itself."),
    down: classRates("What is fetched, for each class by itself."),
  }),
  trust: z.strictObject({
    root: path(
      { text: "none" },
      "Root of the network's policy (TUF), by which everything else in it is checked.",
    ).optional(),
    publishers: publicKeys("Public keys whose releases are trusted, where there is no policy."),
    mode: choice(["signed", "hash-only"], { value: "signed" }, "Whether releases must be signed."),
  }),
  keepalive: z.strictObject({
    keys: toolsetKeys("Toolsets whose keep-alive lists are followed, with their owners' public keys."),
  }),
  publish: z.strictObject({
    key: path({ text: "<node.state>/keys/publisher.pem" }, "Private key that signs releases: PKCS#8 PEM, mode 0600."),
    origin: label({ text: "the first folder origin" }, "Name of the origin that releases go to.").optional(),
    compress: choice(
      ["auto", "never"],
      { value: "auto" },
      "Whether chunks are written compressed (zstd) where that saves a tenth or more.",
    ),
  }),
});

type Parsed = z.output<typeof schema>;

const keysByName: ReadonlyMap<string, SettingKey> = new Map(listKeys());

function* listKeys(): Generator<[string, SettingKey]> {
  for (const [group, type] of Object.entries(schema.shape)) {
    if (!(type instanceof z.ZodObject)) yield keyOf(group === "repositories" ? "repositories.<id>" : group, type);
    else for (const [name, field] of Object.entries(type.shape)) yield keyOf(`${group}.${name}`, field);
  }
  for (const [name, field] of Object.entries(origin.shape)) yield keyOf(`origin.${name}`, field);
}

/** What the table says lies on the type itself or, of one that may be absent, on what that wraps. */
function keyOf(name: string, type: z.ZodType): [string, SettingKey] {
  const wraps = type instanceof z.ZodOptional || type instanceof z.ZodDefault;
  const found = about.get(type) ?? (wraps ? about.get(type.unwrap() as z.ZodType) : undefined);
  if (found === undefined) throw new Error(`broken promise: ${name} is described`);
  return [name, { key: name, ...found }];
}

/** Bytes per second by class, or one rate that holds for each of them. */
function classRates(text: string): z.ZodType<ClassRates> {
  const one = reading(positiveRate);
  const byClass = z.strictObject({
    interactive: one.optional(),
    job_start: one.optional(),
    prefetch: one.optional(),
    repair: one.optional(),
  });
  const type = z
    .union([one, byClass])
    .optional()
    .transform((value): ClassRates => {
      if (typeof value === "number") return { interactive: value, jobStart: value, prefetch: value, repair: value };
      const { interactive, job_start: jobStart, prefetch, repair } = value ?? {};
      return { interactive, jobStart, prefetch, repair };
    });
  const example = '"200 MB/s", or { interactive = "1 Gbit/s", job_start = …, prefetch = …, repair = … }';
  return key(type, "table", { noun: "a rate above zero, or rates by class", example }, { text: "unlimited" }, text);
}

function readPorts(value: string | number): Settings["node"]["lanePorts"] | undefined {
  if (value === "any") return "any";
  const match = /^(\d{1,5})-(\d{1,5})$/.exec(String(value));
  const [first, last] = [Number(match?.[1]), Number(match?.[2])];
  return first >= 1 && first <= last && last <= 65535 ? { first, last } : undefined;
}

function isOriginUrl(text: string): boolean {
  if (!URL.canParse(text)) return false;
  const url = new URL(text);
  return ["http:", "https:"].includes(url.protocol) && url.search === "" && url.hash === "";
}

/** `network.name` and its like as nested tables. */
function treeOf(values: ReadonlyMap<string, unknown>): Record<string, unknown> {
  const tree = new Map<string, unknown>(Object.keys(schema.shape).map((group) => [group, values.get(group)]));
  for (const [name, value] of values) {
    const dot = name.indexOf(".");
    if (dot < 0 || value === undefined) continue;
    const group = name.slice(0, dot);
    tree.set(group, { ...(tree.get(group) as object | undefined), [name.slice(dot + 1)]: value });
  }
  for (const [group, value] of tree) tree.set(group, value ?? {});
  return Object.fromEntries(tree);
}

function toSettings(parsed: Parsed): Settings {
  const { network, node, cache, transfer, trust, keepalive, publish } = parsed;
  const origins = parsed.origin.map(toOrigin);
  const names = origins.map(({ name }) => name);
  const twice = names.find((name, index) => names.indexOf(name) !== index);
  if (twice !== undefined)
    throw new UsageError(`two origins are named ${twice}`, { hint: "give each a name of its own" });
  return {
    network: { name: network.name, keyFile: network.key_file, admission: network.admission },
    node: {
      name: node.name,
      listen: node.listen,
      bootstrap: node.bootstrap,
      mdns: node.mdns,
      announceLoopback: node.announce_loopback,
      site: node.site,
      rack: node.rack,
      state: node.state,
      socket: node.socket,
      adminSocket: node.socket.replace(/[^/]*$/, "admin.sock"),
      lanes: node.lanes,
      lanePorts: node.lane_ports,
      encryption: node.encryption === "on",
      logLevel: node.log_level,
    },
    cache: {
      path: cache.path,
      maxBytes: cache.max_bytes,
      freeBytesMin: cache.free_bytes_min,
      pinnedBytesMax: cache.pinned_bytes_max,
      maxVariants: cache.max_variants,
      maxAgeMs: cache.max_age,
      minIdleMs: cache.min_idle,
      scrubPeriodMs: cache.scrub_period,
      indexMode: cache.index_mode,
      chain: cache.chain,
    },
    repositories: new Map(Object.entries(parsed.repositories)),
    localPackages: parsed.local_packages,
    origins,
    transfer: {
      peers: transfer.peers,
      timeoutMs: transfer.timeout,
      upBytesPerSecond: transfer.up,
      downBytesPerSecond: transfer.down,
    },
    trust: { rootFile: trust.root, publishers: trust.publishers, mode: trust.mode },
    keepalive: { keys: new Map(keepalive.keys.map((entry) => splitOnce(entry) as [string, string])) },
    publish: {
      keyFile: publish.key,
      origin: publishOrigin(publish.origin, origins),
      compress: publish.compress === "auto",
    },
  };
}

function toOrigin(parsed: Parsed["origin"][number], index: number): OriginSettings {
  const name = parsed.name ?? (index === 0 ? "origin" : `origin${index + 1}`);
  const common = { name, policy: parsed.policy, slots: parsed.slots, rateBytesPerSecond: parsed.rate };
  if (parsed.kind === "http") {
    return {
      ...common,
      kind: "http",
      url: parsed.url!,
      caFile: parsed.ca_file,
      credentialsFile: parsed.credentials_file,
    };
  }
  return { ...common, kind: "folder", path: parsed.path!, inPlace: parsed.in_place };
}

function publishOrigin(name: string | undefined, origins: readonly OriginSettings[]): string | undefined {
  const folders = origins.filter(({ kind }) => kind === "folder").map((folder) => folder.name);
  if (name === undefined || folders.includes(name)) return name ?? folders[0];
  const hint = suggestion(name, folders) ?? `folder origins are: ${folders.join(", ") || "none"}`;
  throw new UsageError(`publish.origin: no folder origin is named ${JSON.stringify(name)}`, { hint });
}
