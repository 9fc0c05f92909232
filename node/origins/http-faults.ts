import { STATUS_CODES } from "node:http";
import { UnreachableError } from "../../protocol/errors.ts";

/** What an answer's headers are: names in lower case, several values of one name as a list. */
export type Headers = Readonly<Record<string, string | readonly string[] | undefined>>;

/** An answer that says neither what was asked for nor that it is not there. `place` is the address. */
export function statusFault(
  name: string,
  place: string,
  answer: { readonly status: number; readonly headers: Headers },
  wallMs: number,
): UnreachableError {
  const { status, headers } = answer;
  const words = `${status} ${STATUS_CODES[status] ?? ""}`.trimEnd();
  if (status === 401 || status === 403) {
    return fault(name, place, `answers ${words}`, {
      isLasting: true,
      details: { status },
      hint:
        status === 401
          ? "check the origin's credentials_file"
          : "check the origin's credentials_file, and that the server answers 404 for what it does not have",
    });
  }
  const isBusy = status === 429 || status === 503;
  const retryAfterMs = isBusy ? retryAfter(headers, wallMs) : undefined;
  const again = retryAfterMs === undefined ? "" : `, and asks to be left alone for ${Math.ceil(retryAfterMs / 1000)} s`;
  return fault(name, place, `answers ${words}${again}`, {
    // RFC 9110, section 15: the server's trouble, or ours to wait.
    isLasting: status < 500 && ![408, 425, 429].includes(status),
    details: { status },
    ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
  });
}

/** What undici, the socket or TLS says when there is no answer. */
export function connectionFault(name: string, place: string, cause: unknown): UnreachableError {
  const { code = "", message, name: kind } = (cause ?? {}) as NodeJS.ErrnoException;
  if (certificateCodes.test(code)) {
    return fault(name, place, `has a certificate that is not believed: ${certificateText(code, message)}`, {
      cause,
      isLasting: true,
      details: { code },
      hint:
        certificateHints.get(code) ?? "set the origin's ca_file to the certificates of the authority that signed it",
    });
  }
  if (/^(EPROTO|ERR_SSL_)/.test(code)) {
    return fault(name, place, `does not speak TLS as we do (${code})`, {
      cause,
      isLasting: true,
      hint: "does the server's address begin with http:// or https://?",
    });
  }
  if (kind === "HTTPParserError") return fault(name, place, "does not speak HTTP properly", { cause });
  return fault(name, place, reasons.get(code) ?? `fails: ${code || message || String(cause)}`, { cause });
}

export function fault(
  name: string,
  place: string,
  why: string,
  options: ConstructorParameters<typeof UnreachableError>[1] = {},
): UnreachableError {
  return new UnreachableError(`the origin ${name} cannot be used: ${place} ${why}`, options);
}

/** `Retry-After` (RFC 9110, section 10.2.3): seconds, or a date by the server's own clock where it says it. */
export function retryAfter(headers: Headers, wallMs: number): number | undefined {
  const text = String(headers["retry-after"] ?? "").trim();
  if (/^\d{1,9}$/.test(text)) return Math.min(retryAfterMsMax, Number(text) * 1000);
  const [atMs, theirsMs] = [Date.parse(text), Date.parse(String(headers.date ?? ""))];
  if (Number.isNaN(atMs)) return undefined;
  return Math.min(retryAfterMsMax, Math.max(0, atMs - (Number.isNaN(theirsMs) ? wallMs : theirsMs)));
}

/** Whoever asks for more is asked again all the same: a server that is up must not be lost to a typing error. */
const retryAfterMsMax = 60_000;

const reasons: ReadonlyMap<string, string> = new Map([
  ["ECONNREFUSED", "refuses connections (ECONNREFUSED)"],
  ["ENOTFOUND", "has a host that nobody knows (ENOTFOUND)"],
  ["EAI_AGAIN", "has a host whose name cannot be looked up now (EAI_AGAIN)"],
  ["EHOSTUNREACH", "cannot be reached (EHOSTUNREACH)"],
  ["ENETUNREACH", "cannot be reached (ENETUNREACH)"],
  ["ETIMEDOUT", "does not answer (ETIMEDOUT)"],
  ["UND_ERR_CONNECT_TIMEOUT", "does not answer: no connection in time"],
  ["UND_ERR_HEADERS_TIMEOUT", "is too slow: no answer in time"],
  ["UND_ERR_BODY_TIMEOUT", "is too slow: its answer has stopped coming"],
  ["ECONNRESET", "closed the connection before it had answered"],
  ["EPIPE", "closed the connection before it had answered"],
  ["UND_ERR_SOCKET", "closed the connection before all had come"],
  ["UND_ERR_RES_CONTENT_LENGTH_MISMATCH", "sent another length than it had said"],
]);

/** Node's names for X509_V_ERR_*, and for a name that does not fit (node:tls, "X509 certificate error codes"). */
const certificateCodes =
  /^(CERT_|UNABLE_TO_|DEPTH_ZERO_SELF_SIGNED_CERT|SELF_SIGNED_CERT|ERR_TLS_CERT|CRL_|INVALID_CA|INVALID_PURPOSE|HOSTNAME_MISMATCH|PATH_LENGTH_EXCEEDED)/;

const certificateHints: ReadonlyMap<string, string> = new Map([
  ["CERT_HAS_EXPIRED", "the server needs a new certificate, or this machine's clock is wrong"],
  ["CERT_NOT_YET_VALID", "is this machine's clock right?"],
  ["ERR_TLS_CERT_ALTNAME_INVALID", "use a name in the origin's url that the certificate is made out to"],
]);

function certificateText(code: string, message = ""): string {
  if (code === "ERR_TLS_CERT_ALTNAME_INVALID") return "it is made out to another name";
  return `${message.split("\n")[0]} (${code})`;
}
