import { testSwarm } from "../../conformance/swarm-conformance.ts";
import { LoopbackWorld } from "../../support/libp2p-world.ts";

testSwarm("libp2p", async () => new LoopbackWorld());
