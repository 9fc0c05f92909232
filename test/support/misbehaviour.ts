import { gzipSync } from "node:zlib";
import { isForChunk, type Misbehaviour } from "./static-server.ts";

/** What servers do wrong, by name; each with what it does to chunks only, so that the record is found. */
export const misbehaviours = {
  /** Fails. */
  failing: chunks((response) => response.writeHead(500).end("sorry\n")),
  /** Never begins to answer. */
  silent: chunks(() => undefined),
  /** Stops in the middle of an answer. */
  stopping: chunks((response) => response.writeHead(200, { "content-length": 1000 }).write("a bit")),
  /** Closes the connection in the middle of an answer. */
  truncating: chunks((response) => {
    response.writeHead(200, { "content-length": 1000 });
    response.write("a bit", () => response.destroy());
  }),
  /** Ends early, as if that were all. */
  short: chunks((response) => response.writeHead(200, { "content-length": 5 }).end("a bit")),
  /** Says that there is more than there can be. */
  longer: chunks((response) => response.writeHead(200, { "content-length": 4 << 20 }).end(Buffer.alloc(4 << 20))),
  /** Never stops to send, and does not say how much it will be. */
  endless: chunks((response) => {
    const more = (): boolean | undefined => {
      while (!response.destroyed && response.write(Buffer.alloc(64 << 10)));
      return response.destroyed ? undefined : void response.once("drain", more);
    };
    more();
  }),
  /** Sends elsewhere. */
  redirectingElsewhere: chunks((response) =>
    response.writeHead(302, { location: "http://elsewhere.example/login?token=s3cret" }).end(),
  ),
  /** Sends round in circles. */
  redirectingRound: chunks((response, url) => response.writeHead(302, { location: url }).end()),
  /** Shows a page to log in, as if that were what was asked for. */
  loginPage: chunks((response) => response.writeHead(200, { "content-type": "text/html" }).end("<html>log in</html>")),
  /** Says that it has compressed, and has not. */
  badGzip: chunks((response) => response.writeHead(200, { "content-encoding": "gzip" }).end("not gzip")),
  /** A few bytes that would be many. */
  gzipBomb: chunks((response) => response.writeHead(200, { "content-encoding": "gzip" }).end(bomb)),
  /** Encodes in a way that nobody knows. */
  strangeEncoding: chunks((response) => response.writeHead(200, { "content-encoding": "rot13" }).end("nopq")),
  /** Forbids. */
  forbidding: chunks((response) => response.writeHead(403).end()),
  /** Has too much to do, and says so. */
  busy: chunks((response) => response.writeHead(503, { "retry-after": "45" }).end()),
} satisfies Record<string, Misbehaviour>;

/** Sends a byte of a chunk now and then, so that it is never silent. */
export const slow: Misbehaviour = chunks((response) => {
  response.writeHead(200, { "content-length": 1000 });
  const timer = setInterval(() => response.write("x"), 100);
  response.once("close", () => clearInterval(timer));
});

const bomb = gzipSync(Buffer.alloc(64 << 20));

function chunks(answer: (response: Parameters<Misbehaviour>[1], url: string) => unknown): Misbehaviour {
  return (request, response) => {
    if (!isForChunk(request)) return false;
    answer(response, request.url!);
    return true;
  };
}
