import { once } from "node:events";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { checkBootstrap } from "../../../node/doctor/ports.ts";

/** What is said of a peer that answers in these pieces, each as a segment of its own. */
async function told(...pieces: readonly string[]): Promise<readonly string[]> {
  const server = createServer((socket: Socket) => {
    socket.setNoDelay(true).on("error", () => undefined);
    socket.once("data", () => {
      for (const [i, piece] of pieces.entries()) setTimeout(() => socket.write(piece), 20 * i);
    });
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  try {
    const address = `/ip4/127.0.0.1/tcp/${(server.address() as AddressInfo).port}`;
    const lines: string[] = [];
    for await (const { level, message } of checkBootstrap([address], { otherWay: false }))
      lines.push(`${level} ${message}`);
    return lines;
  } finally {
    server.close();
  }
}

test("a peer whose first words come in pieces is a peer", async () => {
  for (const pieces of [["\u0013/multistream/1.0.0\n"], ["\u0013", "/multi", "stream/1.0.0\n"]]) {
    const [line, ...more] = await told(...pieces);
    assert.match(line!, /^ok .* answers$/);
    assert.equal(more, []);
  }
});

test("another program is told as soon as it says something else", async () => {
  assert.match((await told("\u0013", "HTTP/1.1 400\r\n"))[0]!, /^failure .* is another program/);
});

test.run();
