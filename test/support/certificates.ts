import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** A private key and its certificate, as files and as text (PEM). */
export interface Certificate {
  readonly certFile: string;
  readonly keyFile: string;
  readonly cert: string;
  readonly key: string;
}

/** An authority of a test's own, made by openssl, which signs for servers on loopback. */
export class Authority implements Disposable {
  readonly path: string;
  /** What who trusts it has as `ca_file`. */
  readonly caFile: string;

  constructor() {
    this.path = mkdtempSync(join(tmpdir(), "p2pcache-ca-"));
    this.caFile = join(this.path, "ca.pem");
    const subject = ["-subj", "/CN=a studio's own authority"];
    this.#openssl("req", "-x509", ...newKey, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", ...subject);
    mkdirSync(join(this.path, "signed"));
    writeFileSync(join(this.path, "index"), "");
    writeFileSync(join(this.path, "serial"), "01\n");
    writeFileSync(join(this.path, "ca.conf"), configuration);
  }

  /** A server's certificate. `names` as in `IP:127.0.0.1` or `DNS:localhost`. */
  certify(name: string, options: { readonly names?: string; readonly isExpired?: boolean } = {}): Certificate {
    const { names = "IP:127.0.0.1,DNS:localhost", isExpired = false } = options;
    const [keyFile, request, certFile] = [`${name}.key`, `${name}.csr`, `${name}.pem`];
    this.#openssl("req", ...newKey, "-keyout", keyFile, "-out", request, "-subj", `/CN=${name}`);
    writeFileSync(join(this.path, `${name}.ext`), `subjectAltName=${names}\n`);
    const dates = isExpired ? ["-startdate", "20200101000000Z", "-enddate", "20200102000000Z"] : ["-days", "2"];
    const files = ["-in", request, "-out", certFile, "-extfile", `${name}.ext`];
    this.#openssl("ca", "-batch", "-notext", "-config", "ca.conf", ...files, ...dates);
    const [cert, key] = [certFile, keyFile].map((file) => readFileSync(join(this.path, file), "utf8"));
    return { certFile: join(this.path, certFile), keyFile: join(this.path, keyFile), cert: cert!, key: key! };
  }

  [Symbol.dispose](): void {
    rmSync(this.path, { recursive: true, force: true });
  }

  #openssl(...words: readonly string[]): void {
    execFileSync("openssl", words, { cwd: this.path, stdio: ["ignore", "ignore", "pipe"] });
  }
}

const newKey = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];

const configuration = `[ca]
default_ca = own
[own]
database = index
serial = serial
new_certs_dir = signed
certificate = ca.pem
private_key = ca.key
default_md = sha256
policy = any
unique_subject = no
[any]
commonName = supplied
`;
