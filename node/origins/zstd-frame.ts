/** Reads up to `lengthBytes` bytes from `at` on; fewer only where the file ends. */
export type ReadAt = (at: number, lengthBytes: number) => Promise<Uint8Array>;

/**
 * Whether a file of `fileBytes` bytes goes, by the headers of its blocks, to the end of one zstd frame that holds
 * `sizeBytes` bytes. That takes one short read a block of up to 128 KiB; what is in the blocks is not looked at. False
 * for a frame that does not say how much it holds, too. Source: RFC 8878, sections 3.1.1.1 and 3.1.1.2.
 */
export async function isWholeFrame(read: ReadAt, fileBytes: number, sizeBytes: number): Promise<boolean> {
  const header = headerOf(Buffer.from(await read(0, Math.min(fileBytes, headerBytesMax))));
  if (header?.sizeBytes !== sizeBytes) return false;
  let at = header.bytes;
  for (let block = 0; block < blocksMax; block++) {
    const head = Buffer.from(await read(at, blockHeaderBytes));
    if (head.length < blockHeaderBytes) return false;
    const value = head.readUIntLE(0, blockHeaderBytes);
    at += blockHeaderBytes + (((value >> 1) & 3) === repeatedByte ? 1 : value >> 3);
    if (at > fileBytes) return false;
    if (value & 1) return at + header.checksumBytes === fileBytes;
  }
  return false;
}

interface FrameHeader {
  readonly bytes: number;
  readonly sizeBytes: number;
  readonly checksumBytes: number;
}

function headerOf(bytes: Buffer): FrameHeader | undefined {
  if (bytes.length <= 5 || bytes.readUInt32LE(0) !== magicNumber) return undefined;
  const descriptor = bytes[4]!;
  const isSingleSegment = (descriptor & 32) !== 0;
  const sizeFlag = descriptor >> 6;
  if (sizeFlag === 0 && !isSingleSegment) return undefined;
  const at = 5 + (isSingleSegment ? 0 : 1) + [0, 1, 2, 4][descriptor & 3]!;
  const fieldBytes = 1 << sizeFlag;
  if (bytes.length < at + fieldBytes) return undefined;
  // Of eight bytes the lower six do: no chunk comes near.
  const value = bytes.readUIntLE(at, Math.min(fieldBytes, 6));
  return {
    bytes: at + fieldBytes,
    sizeBytes: fieldBytes === 2 ? value + 256 : value,
    checksumBytes: descriptor & 4 ? 4 : 0,
  };
}

const magicNumber = 0xfd2fb528;
/** Of a frame's header. */
const headerBytesMax = 18;
const blockHeaderBytes = 3;
/** Of a chunk of 2 MiB in blocks of 2 KiB; encoders write blocks of up to 128 KiB, and split few. */
const blocksMax = 1024;
/** The block type whose content is one byte, however long the block. */
const repeatedByte = 1;
