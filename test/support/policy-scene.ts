import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { keyId, loadPublisherKey, publicKeyText } from "../../node/keys.ts";
import type { Log } from "../../node/log.ts";
import type { LogEvent } from "../../node/log-events.ts";
import { CacheNode, type NodeOptions } from "../../node/node.ts";
import type { Settings } from "../../node/settings/schema.ts";
import { beginPolicy, changePolicy, type TrustChange, type TrustOptions } from "../../node/trust-admin.ts";
import { seededRandom } from "../../protocol/random.ts";
import { Studio, type StudioMachine } from "./studio.ts";
import { Events } from "./swarm-member.ts";
import { makeTree } from "./trees.ts";

export const variant = { kind: "rez", repository: "studio", name: "foo", version: "1.0.0" } as const;
export const thing = { kind: "variant", variant } as const;

/** A line of a node's log. */
interface Logged {
  readonly machine: string;
  readonly event: LogEvent;
  readonly facts: Readonly<Record<string, unknown>>;
}

/** A studio with an origin, an admin, and nodes in this process; one variant is released by its publisher. */
export class PolicyScene implements AsyncDisposable {
  readonly studio: Studio;
  readonly #logged = new Events<Logged>();
  readonly #nodes = new AsyncDisposableStack();
  /** Lines up to here have been looked at. */
  #seen = 0;

  private constructor(studio: Studio) {
    this.studio = studio;
  }

  static async open(): Promise<PolicyScene> {
    const scene = new PolicyScene(await Studio.open());
    mkdirSync(scene.tree, { mode: 0o755 });
    makeTree(scene.tree, seededRandom(1), { smallFiles: 20, largeMib: 1 });
    await scene.studio.publish(variant, scene.tree);
    return scene;
  }

  get tree(): string {
    return join(this.studio.path, "packages", "foo");
  }

  /** A machine that follows the policy, and has no other publishers. */
  settings(machine: string, more: Partial<Settings["trust"]> = {}, options: StudioMachine = {}): Settings {
    const settings = this.studio.settings(this.studio.configure(machine, options));
    const rootFile = join(this.studio.path, "origin", "policy", "1.root.json");
    return { ...settings, trust: { ...settings.trust, rootFile, publishers: [], ...more } };
  }

  /** The policy, with the studio's publisher in it. */
  async begin(options: TrustOptions = {}): Promise<void> {
    const publishers = [await this.publisher()];
    const settings = this.settings("admin", { rootFile: undefined, publishers });
    await beginPolicy(settings, { rootKeys: [], threshold: 1 }, options);
  }

  async change(change: TrustChange, options: TrustOptions = {}): Promise<void> {
    await changePolicy(this.settings("admin"), change, options);
  }

  /** The text of the publisher's key. */
  async publisher(): Promise<string> {
    return publicKeyText(await loadPublisherKey(join(this.studio.path, "publisher.pem")));
  }

  async publisherId(): Promise<string> {
    return keyId((await loadPublisherKey(join(this.studio.path, "publisher.pem"))).rawPublic);
  }

  /** A node that looks at the origins all the time. */
  async node(
    machine: string,
    settings: Settings = this.settings(machine),
    options: NodeOptions = {},
  ): Promise<CacheNode> {
    return this.#nodes.use(await this.nodeToClose(machine, settings, options));
  }

  /** One that the test closes. */
  async nodeToClose(
    machine: string,
    settings: Settings = this.settings(machine),
    options: NodeOptions = {},
  ): Promise<CacheNode> {
    const log: Log = (_level, event, facts = {}) => this.#logged.add({ machine, event, facts });
    return await CacheNode.open(settings, { log, policyPeriodMs: 20, ...options });
  }

  /** A node whose policy is in force. */
  async following(machine: string, settings?: Settings, options: NodeOptions = {}): Promise<CacheNode> {
    const node = await this.node(machine, settings, options);
    await this.heard("policy-followed", machine);
    return node;
  }

  /** From now on only what is logged later is heard. */
  forget(): void {
    this.#seen = this.#logged.all.length;
  }

  /** What a machine has logged, or will. */
  async heard(event: LogEvent, machine: string): Promise<Readonly<Record<string, unknown>>> {
    const isNew = (line: Logged) => this.#logged.all.indexOf(line) >= this.#seen;
    const isIt = (line: Logged) => line.event === event && line.machine === machine && isNew(line);
    return (await this.#logged.until(`${event} on ${machine}`, isIt, 30_000)).facts;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#nodes.disposeAsync();
    await this.studio[Symbol.asyncDispose]();
  }
}
