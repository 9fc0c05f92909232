import { once } from "node:events";
import { type IncomingMessage, request as requestPlain } from "node:http";
import { request as requestSecure } from "node:https";

/**
 * The time of a web server, milliseconds since 1970: every answer says it, also one that refuses us (RFC 9110, section
 * 6.6.1). Undefined where it cannot be reached or says none.
 * @param authorities certificates, PEM, in place of those that Node knows.
 */
export async function readServerTime(url: string, authorities: string | undefined): Promise<number | undefined> {
  const { protocol, origin, pathname } = new URL(url);
  const options = { method: "HEAD", ...(authorities === undefined ? {} : { ca: authorities }) };
  const request = protocol === "https:" ? requestSecure : requestPlain;
  const call = request(new URL(`${pathname.replace(/\/$/, "")}/p2pcache.json`, origin), options);
  try {
    call.end();
    const [answer] = (await once(call, "response", { signal: AbortSignal.timeout(waitMs) })) as [IncomingMessage];
    const timeMs = Date.parse(answer.headers.date ?? "");
    return Number.isNaN(timeMs) ? undefined : timeMs;
  } catch {
    return undefined;
  } finally {
    call.on("error", () => undefined);
    call.destroy();
  }
}

const waitMs = 3_000;
