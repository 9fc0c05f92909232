/** Every limit of the formats and protocols, with its unit and its reason. */

export const KIB = 1024;
export const MIB: number = 1024 * KIB;
const GIB: number = 1024 * MIB;

/** A name inside a tree: Linux refuses longer parts (limits.h, NAME_MAX). */
export const nameBytesMax = 255;
/** A path inside a tree: Linux refuses longer ones (limits.h, PATH_MAX includes the NUL). */
export const pathBytesMax = 4095;
/** Entries of one tree: ten times the largest tree that studios report (100,000 files). */
export const entriesMax = 1_000_000;
/** Bytes of one tree: 1 TiB, thirty times the largest that studios report. */
export const payloadBytesMax: number = 1024 * GIB;

/** A file from this size on is cut by itself (DESIGN section 3). */
export const largeFileBytesMin: number = MIB;
/** Cut points of a large file (DESIGN section 3; Xia et al., FastCDC, USENIX ATC 2016). */
export const chunkBytesMin: number = 256 * KIB;
export const chunkBytesTarget: number = 512 * KIB;
export const chunkBytesMax: number = 2 * MIB;
/** What a small file weighs at least in a run: an open and a disk block cost as much as 4 KiB (decision 0001). */
export const runFileWeightMin: number = 4 * KIB;

/** A manifest segment (DESIGN section 3). */
export const segmentBytesMin: number = 64 * KIB;
export const segmentBytesMax: number = 256 * KIB;
/** A manifest root: 20,000 segments, more than `entriesMax` ever needs. It travels inside the record. */
export const rootBytesMax: number = MIB;
/** A release record: its root twice in base64, and room for requirements. */
export const recordBytesMax: number = 2 * MIB;

/** Why a release was withdrawn, for people: a sentence or two. */
export const reasonBytesMax = 1000;

/** An origin's index: half a million variants of 120 bytes. */
export const originIndexBytesMax: number = 64 * MIB;

/** The header of a frame: a thousand holdings of 70 bytes fit, and a full directory goes in several frames. */
export const frameHeaderBytesMax: number = 128 * KIB;
/** The raw bytes behind a frame's header: one item. Far below the 4 MiB at which js-libp2p gives up on a stream. */
export const frameBodyBytesMax: number = chunkBytesMax;
/** What a wanter tells its registrar: a bit for each of 65,537 groups, and a site's name. */
export const registerQuestionBytesMax: number = 10 * KIB;
/** What it is told: names of 512 peers, 66 bytes each at most. */
export const registerAnswerBytesMax: number = 40 * KIB;
/** Questions of one stream that are not answered yet: a wanter asks about each payload once a second. */
export const registerQuestionsMax = 16;
/** Items asked for in one frame. */
export const requestItemsMax = 256;
/** Holdings remembered of one peer (DESIGN section 6: 1,000 are expected). */
export const holdingsPerPeerMax = 20_000;
/** Payloads that one stream may have joined at a time. */
export const joinsPerStreamMax = 64;
/** Any text of a peer that people are shown: a name, a label, a reason. */
export const textBytesMax = 256;
/** Asked for and not yet answered, per stream: js-libp2p aborts a paused reader past 4 MiB (DESIGN section 6). */
export const streamInFlightBytesMax: number = 3 * MIB;
/** Asked for and not yet stored, per transfer: keeps a node under its memory bar. */
export const transferInFlightBytesMax: number = 16 * MIB;

/** Multiaddrs that a peer announces: a machine with more networks than this names its best. */
export const addressesMax = 8;
/** One of them: a host name of four labels, its port and the peer's id take less than half of it. */
export const addressBytesMax = 256;
/** Changes in one announcement: 17 KiB of them. More go out as several, a second apart, so that no burst fills a link. */
export const changesMax = 256;
/** An announcement and its envelope: eight addresses, four texts and `changesMax` changes of 69 bytes fit in 24 KiB. */
export const announcementBytesMax: number = 24 * KIB;
export const envelopeBytesMax: number = announcementBytesMax + KIB;
/** How long an announcement may count: a machine that is silent for a day is not there. */
export const lifetimeMsMax: number = 24 * 3_600_000;
/** Peers of which a node knows: four times the largest network (DESIGN section 2, P7). */
export const peersMax = 20_000;
/** Different pairs of variant and payload in a directory: ten times a large studio's 50,000; 64 bytes each. */
export const pairsMax = 500_000;
/** Holdings in a directory, of all peers together: twice 5,000 × 1,000; 4 bytes each. */
export const holdingsMax = 10_000_000;
/** Peers whose lists are asked for at once: their names, 55 bytes each, fit in one frame's header. */
export const partsPerAskMax = 2_000;
/** Of a head, by which two nodes compare what they know: 52 bits in 8 bytes. */
export const fingerprintBytes = 8;
/** Heads in one frame of an answer, and what their envelopes come to: far below a frame's header. */
export const headsPerFrameMax = 128;
export const headsFrameBytesMax: number = 64 * KIB;
/** Pairs in one frame of an answer: 64 KiB. */
export const pairsPerFrameMax = 1_024;
/** The largest body of an answer: the numbers of `holdingsPerPeerMax` pairs, 4 bytes each. */
export const directoryBodyBytesMax: number = Math.max(64 * pairsPerFrameMax, 4 * holdingsPerPeerMax);
/** The body of an ask for heads: a fingerprint of each known one. */
export const knownBytesMax: number = fingerprintBytes * peersMax;
/** A payload of at most this many bytes is fetched without a join: one request, one answer (DESIGN section 6). */
export const smallPayloadBytesMax: number = 4 * MIB;

/** A file of the policy, metadata or target: one body of a frame, so that any peer can give it. */
export const policyFileBytesMax: number = recordBytesMax;
/** Digests in one list of a retired key's records: 1.1 MiB. */
export const retiredRecordsPerFileMax = 16_384;
/** Publishers, retired and revoked keys together: far more than a studio has people. */
export const publishersMax = 2_000;
/** Members of one site: 120 bytes each fill a file. */
export const membersPerSiteMax = 16_000;
/** Denied payloads: 180 bytes each. */
export const denialsMax = 10_000;
/** Sites and toolsets that the policy delegates to. */
export const delegationsMax = 1_000;
/** What a member says it has of the policy: its timestamp, and its newest roots; 60 bytes each. */
export const policyHeadsMax = 32;

/** Lines of one keep-alive list: five times what a large toolset names (issue 5: 2,000). */
export const keepEntriesMax = 10_000;
/** One list, in its envelope: `keepEntriesMax` lines of 140 bytes; no larger than a file of the policy. */
export const keepListBytesMax: number = policyFileBytesMax;
/** Patterns for one part of a list's scope: a wing of racks by name. */
export const scopePatternsMax = 256;

/** Of `maxBytes`: past the first the cache is cleaned by itself, down to the second, so that it is not done for each fetch. */
export const highWatermark = 0.95;
export const lowWatermark = 0.9;
/** The same for the disk, in multiples of `freeBytesMin`. */
export const diskHighWatermark = 1.25;
export const diskLowWatermark = 1.5;
/** Inodes that are left to whoever else writes on this disk. */
export const evictionInodesMin = 1000;
