import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";

export interface LabOptions {
  readonly machines: number;
  /** What each machine's link carries both ways, as `tc` has it: `200mbit`. Unshaped when absent. */
  readonly rate?: string;
}

/** One machine of a lab: a network namespace with a link to the lab's switch. */
export interface LabMachine {
  readonly number: number;
  readonly namespace: string;
  readonly address: string;
  /** What comes before a command that is to run there. */
  readonly inside: readonly string[];
}

/**
 * Machines on one switch: namespaces that are linked by a bridge, each with `lo`, `eth0`, an address in 10.77.0.0/24 and
 * a route for multicast and nothing else (PERFORMANCE section 7). Needs root and iproute2. Names are of this lab alone,
 * so that several labs can be there at a time. A process of its own takes the lab down when this one ends, however it
 * ends, and kills whatever still runs in it.
 */
export class NetworkLab implements AsyncDisposable {
  readonly machines: readonly LabMachine[];
  readonly #name: string;
  readonly #warden: ChildProcess;

  private constructor(name: string, machines: readonly LabMachine[], warden: ChildProcess) {
    this.#name = name;
    this.machines = machines;
    this.#warden = warden;
  }

  static async open(options: LabOptions): Promise<NetworkLab> {
    // An interface's name has at most 15 characters.
    const name = `pc${randomBytes(3).toString("hex")}`;
    const machines = Array.from({ length: options.machines }, (_, i): LabMachine => {
      const namespace = `${name}n${i + 1}`;
      const inside = ["ip", "netns", "exec", namespace];
      return { number: i + 1, namespace, address: `10.77.0.${i + 1}`, inside };
    });
    const lab = new NetworkLab(name, machines, startWarden(name, machines));
    try {
      lab.#build(options.rate);
    } catch (error) {
      await lab[Symbol.asyncDispose]();
      throw error;
    }
    return lab;
  }

  machine(number: number): LabMachine {
    const machine = this.machines[number - 1];
    if (machine === undefined) throw new Error(`the lab has no machine ${number}`);
    return machine;
  }

  /** Takes a machine's cable out of the switch: it notices nothing, but nobody hears it. */
  cut(number: number): void {
    ip(`link set ${this.#port(number)} nomaster`);
  }

  /** Puts the cable back. */
  heal(number: number): void {
    ip(`link set ${this.#port(number)} master ${this.#name}`);
  }

  /** Takes the link of a machine down, as a switch does that is off: its interface loses its carrier. */
  unplug(number: number): void {
    ip(`link set ${this.#port(number)} down`);
  }

  plug(number: number): void {
    ip(`link set ${this.#port(number)} up`);
  }

  /** Sets what a machine's link carries, both ways. */
  shape(number: number, rate: string): void {
    const bucket = `tbf rate ${rate} burst 256kb latency 50ms`;
    run("tc", `-n ${this.machine(number).namespace} qdisc replace dev eth0 root ${bucket}`);
    run("tc", `qdisc replace dev ${this.#port(number)} root ${bucket}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#warden.exitCode !== null) return;
    this.#warden.ref();
    const ended = once(this.#warden, "exit");
    this.#warden.stdin?.end();
    await ended;
  }

  #build(rate: string | undefined): void {
    ip(`link add ${this.#name} type bridge mcast_snooping 0`);
    ip(`link set ${this.#name} up`);
    for (const { number, namespace, address } of this.machines) {
      const port = this.#port(number);
      ip(`netns add ${namespace}`);
      ip(`link add ${port} type veth peer name eth0 netns ${namespace}`);
      ip(`link set ${port} master ${this.#name} up`);
      ip(`-n ${namespace} link set lo up`);
      ip(`-n ${namespace} addr add ${address}/24 dev eth0`);
      ip(`-n ${namespace} link set eth0 up`);
      // There is no default route, and discovery is multicast.
      ip(`-n ${namespace} route add 224.0.0.0/4 dev eth0`);
      if (rate !== undefined) this.shape(number, rate);
    }
  }

  /** The switch's end of a machine's cable. */
  #port(number: number): string {
    return `${this.#name}v${number}`;
  }
}

function ip(words: string): void {
  run("ip", words);
}

function run(command: string, words: string): void {
  execFileSync(command, words.split(" "), { stdio: ["ignore", "ignore", "pipe"] });
}

/** A shell in a session of its own that waits for the end of its input, which is ours, and then takes all down. */
function startWarden(name: string, machines: readonly LabMachine[]): ChildProcess {
  const lines = machines.flatMap(({ namespace, number }) => [
    `for pid in $(ip netns pids ${namespace} 2>/dev/null); do kill -9 $pid 2>/dev/null; done`,
    `ip netns del ${namespace} 2>/dev/null`,
    // The kernel clears a namespace when it finds the time, and the cable with it.
    `ip link del ${name}v${number} 2>/dev/null`,
  ]);
  const script = ["read -r _", ...lines, `ip link del ${name} 2>/dev/null`, "exit 0"].join("\n");
  // Without our environment, by which the runner finds and kills what a test leaves behind.
  const env = { PATH: process.env.PATH ?? "" };
  const warden = spawn("sh", ["-c", script], { stdio: ["pipe", "ignore", "ignore"], detached: true, env });
  warden.unref();
  return warden;
}
