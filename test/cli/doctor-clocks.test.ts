// runs unprivileged
// deadline: 300 s
import { once } from "node:events";
import { appendFileSync, rmSync, utimesSync } from "node:fs";
import { createServer as createHttpServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { examine, finds, hook, openMachine } from "../support/doctor-machine.ts";

const test = suite("doctor and clocks");

finds(
  test,
  "a clock that is a year behind what the origin was written by",
  "failure",
  { check: "clock", message: /clock is 365 days behind that of origin filer/, hint: /set-ntp/ },
  async (machine) => {
    const nextYear = Date.now() / 1000 + 365 * 24 * 3600;
    utimesSync(join(machine.studio.path, "origin", "p2pcache.json"), nextYear, nextYear);
  },
);

test("a clock that is behind that of the peer that is here: a failure that says what to do", async () => {
  await using machine = await openMachine();
  const { studio } = machine;
  const shift = hook(machine, "clock", "const now = Date.now; Date.now = () => now() + 3 * 3600 * 1000;\n");
  const friend = await studio.start(studio.configure("friend"), [], { prefix: ["env", `NODE_OPTIONS=${shift}`] });
  studio.configure("machine", { bootstrap: friend.addresses });
  rmSync(join(machine.path, "state"), { recursive: true });
  const node = await studio.start(machine.config);
  while ((await node.client.peers()).length === 0) await sleep(20);
  const { failures } = await examine(machine);
  assert.equal(
    failures.map(({ check }) => check),
    ["clock"],
  );
  assert.match(failures[0]!.message, /clock is 3 h behind that of the peer friend/);
  assert.match(failures[0]!.hint ?? "", /set-ntp/);
});

for (const [what, aheadMs, check, message] of [
  ["whose clock is 3 h ahead of ours", 3 * 3600 * 1000, "clock", /clock is 3 h behind that of origin server/],
  ["that refuses whoever asks", 0, "origin server", /403/],
] as const) {
  finds(test, `a web server ${what}`, "failure", { check, message, hint: /./ }, async (machine, stack) => {
    const server = createHttpServer((request, response) => {
      response.sendDate = false;
      response.setHeader("date", new Date(Date.now() + aheadMs).toUTCString());
      const isKnown = request.url === "/repository/p2pcache.json";
      response.statusCode = check === "origin server" ? 403 : isKnown ? 200 : 404;
      response.end(JSON.stringify({ formatVersion: 1, network: "test" }));
    }).listen(0, "127.0.0.1");
    await once(server, "listening");
    stack.defer(() => server.closeAllConnections());
    stack.defer(() => void server.close());
    const { port } = server.address() as AddressInfo;
    const url = `http://127.0.0.1:${port}/repository`;
    appendFileSync(machine.config, `[[origin]]\nname = "server"\nkind = "http"\nurl = "${url}"\n`);
  });
}

test.run();
