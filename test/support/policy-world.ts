import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { generatePublisherKey, publicKeyText } from "../../node/keys.ts";
import { loadSettings } from "../../node/settings/load.ts";
import type { Settings } from "../../node/settings/schema.ts";
import type { WrittenPolicy } from "../../node/trust/policy-author.ts";
import { PolicyFolder } from "../../node/trust/policy-folder.ts";
import { beginPolicy, changePolicy, type TrustChange, type TrustInit } from "../../node/trust-admin.ts";

export const dayMs: number = 24 * 3_600_000;

/** An origin's folder, and admins with keys of their own, in a directory that goes with it; time is given. */
export class PolicyWorld implements Disposable {
  readonly path: string;
  readonly folder: PolicyFolder;
  readonly originPath: string;
  /** What the admins' clocks say. */
  nowMs: number = Date.now();

  constructor() {
    this.path = mkdtempSync(join(tmpdir(), "p2pcache-policy-"));
    this.originPath = join(this.path, "origin");
    mkdirSync(this.originPath);
    this.folder = new PolicyFolder(this.originPath);
  }

  /** The settings of a machine; nothing is on its disk yet. */
  settings(machine = "admin", publishers: readonly string[] = []): Settings {
    const env = {
      P2PCACHE_NETWORK__NAME: "test",
      P2PCACHE_NODE__STATE: join(this.path, machine),
      P2PCACHE_CACHE__PATH: join(this.path, `${machine}-cache`),
      P2PCACHE_ORIGIN: JSON.stringify([{ name: "filer", kind: "folder", path: this.originPath }]),
      HOME: this.path,
    };
    const { settings } = loadSettings({ flags: {}, env });
    return { ...settings, trust: { ...settings.trust, publishers } };
  }

  /** A key in a file of its own, and its text. */
  async key(name: string): Promise<{ readonly path: string; readonly text: string }> {
    const path = join(this.path, `${name}.pem`);
    return { path, text: publicKeyText(await generatePublisherKey(path)) };
  }

  async begin(init: Partial<TrustInit> = {}, publishers: readonly string[] = []): Promise<void> {
    const { nowMs } = this;
    await beginPolicy(this.settings("admin", publishers), { rootKeys: [], threshold: 1, ...init }, { nowMs });
  }

  async change(change: TrustChange, keyFiles: readonly string[] = [], machine = "admin"): Promise<WrittenPolicy> {
    return await changePolicy(this.settings(machine), change, { keyFiles, nowMs: this.nowMs });
  }

  [Symbol.dispose](): void {
    rmSync(this.path, { recursive: true, force: true });
  }
}
