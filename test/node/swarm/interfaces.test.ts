import { suite } from "uvu";
import * as assert from "uvu/assert";
import { addressOf, announcedAddresses, dialable } from "../../../node/swarm/addresses.ts";
import { type Interfaces, isUnicast, usableSegments } from "../../../node/swarm/interfaces.ts";

const test = suite("the addresses of a node");

function on(name: string, cidr: string, internal = false): Interfaces {
  const address = cidr.split("/")[0]!;
  const family = address.includes(":") ? "IPv6" : "IPv4";
  const common = { address, cidr, netmask: "x", mac: "", internal };
  return { [name]: [family === "IPv6" ? { ...common, family, scopeid: 0 } : { ...common, family }] };
}

const lo = on("lo", "127.0.0.1/8", true);
const lan = on("eth0", "10.77.0.1/24");

test("bridges of containers and virtual machines are no way to a neighbour, and loopback only when asked for", () => {
  const all = { ...lo, ...lan, ...on("docker0", "172.17.0.1/16"), ...on("br-0a1b2c", "172.18.0.1/16") };
  const more = {
    ...on("veth12ab", "169.254.1.1/16"),
    ...on("virbr0", "192.168.122.1/24"),
    ...on("cni0", "10.88.0.1/16"),
  };
  const names = (withLoopback: boolean) => usableSegments(withLoopback, { ...all, ...more }).map(({ name }) => name);
  assert.equal(names(false), ["eth0"]);
  assert.equal(names(true), ["lo", "eth0"]);
});

test("a link-local address counts only where an interface has no other", () => {
  const both = { eth0: [...on("eth0", "169.254.7.7/16").eth0!, ...lan.eth0!] };
  assert.equal(
    usableSegments(false, both).map(({ address }) => address),
    ["10.77.0.1"],
  );
  assert.equal(
    usableSegments(false, on("eth0", "169.254.7.7/16")).map(({ address }) => address),
    ["169.254.7.7"],
  );
});

test("a segment knows what lies on it", () => {
  const [segment] = usableSegments(false, lan);
  assert.equal(
    ["10.77.0.9", "10.77.1.9", "::1", "host", ""].map((address) => segment!.contains(address)),
    [true, false, false, false, false],
  );
  const [six] = usableSegments(false, on("eth0", "fd00:1::5/64"));
  assert.equal([six!.contains("fd00:1::9"), six!.contains("fd00:2::9")], [true, false]);
});

test("an address of a member is an IP address and a TCP port, and nothing else", () => {
  const id = "12D3KooWGRUAJLS5nV7zqpBtqrvEPyYxLwHhQ1bPSBYoJXXdBvAu";
  assert.is(addressOf("/ip4/10.0.0.1/tcp/4001")?.text, "/ip4/10.0.0.1/tcp/4001");
  assert.is(addressOf(`/ip4/10.0.0.1/tcp/4001/p2p/${id}`, id)?.text, "/ip4/10.0.0.1/tcp/4001");
  assert.is(addressOf("/ip6/fd00::1/tcp/4001")?.ip, "fd00::1");
  const others = [
    "",
    "nonsense",
    "/ip4/10.0.0.1/tcp/0",
    "/ip4/0.0.0.0/tcp/4001",
    "/ip4/224.0.0.251/tcp/4001",
    "/ip4/255.255.255.255/tcp/1",
    "/ip6/::/tcp/4001",
    "/ip6/ff02::1/tcp/4001",
    "/ip4/10.0.0.1/udp/4001",
    "/ip4/10.0.0.1/tcp/4001/ws",
    "/ip4/10.0.0.1/tcp/4001/tls/ws",
    "/dns4/filer/tcp/4001",
    "/dnsaddr/example.org",
    "/unix/tmp%2Fsocket",
    `/ip4/10.0.0.1/tcp/4001/p2p/${id}/p2p-circuit`,
    `/ip4/10.0.0.1/tcp/4001/${"p".repeat(300)}`,
  ];
  assert.equal(
    others.map((text) => addressOf(text)?.text),
    others.map(() => undefined),
  );
  assert.is(addressOf(`/ip4/10.0.0.1/tcp/4001/p2p/${id}`, "another"), undefined);
});

test("a node announces where its neighbours reach it, and dials no loopback address of another machine", () => {
  const listening = ["/ip4/127.0.0.1/tcp/4001", "/ip4/10.77.0.1/tcp/4001", "/ip4/172.17.0.1/tcp/4001"];
  const segments = (withLoopback: boolean) => usableSegments(withLoopback, { ...lo, ...lan });
  assert.equal(announcedAddresses(listening, segments(false), false), ["/ip4/10.77.0.1/tcp/4001"]);
  assert.equal(announcedAddresses(listening, segments(true), true), listening.slice(0, 2));
  assert.equal(dialable(listening, "p", false), listening.slice(1));
  assert.equal(dialable(["/ip6/::1/tcp/1", "/ip4/127.9.9.9/tcp/1", "/dns4/x/tcp/1"], "p", false), []);
});

test("what is no unicast address is none", () => {
  assert.equal(["1.2.3.4", "0.1.2.3", "239.1.1.1", "fe80::1", "ff05::2", "1.2.3"].map(isUnicast), [
    true,
    false,
    false,
    true,
    false,
    false,
  ]);
});

test.run();
