import { readFileSync } from "node:fs";

/** A mounted filesystem, of proc(5)'s mountinfo. */
export interface Mount {
  readonly path: string;
  /** `ext4`, `nfs4`, `fuse.sshfs`. */
  readonly type: string;
  /** Of the mount and of its filesystem together: `ro`, `noexec`. */
  readonly options: ReadonlySet<string>;
}

/** The mount that a real path lies on; undefined where there is no /proc. */
export function mountOf(realPath: string): Mount | undefined {
  let found: Mount | undefined;
  for (const mount of readMounts()) {
    const below = mount.path === "/" || realPath === mount.path || realPath.startsWith(`${mount.path}/`);
    // Of two at one place the later one covers the earlier.
    if (below && mount.path.length >= (found?.path.length ?? 0)) found = mount;
  }
  return found;
}

/** Whether another machine may write there without this kernel's knowing: what Rez's lock and renames rely on is weaker. */
export function isRemote({ type }: Mount): boolean {
  return remoteTypes.has(type) || type.startsWith("fuse.");
}

/** Lines of `/proc/self/mountinfo`: the part behind ` - ` has type, source and options of the filesystem. */
export function parseMounts(text: string): Mount[] {
  return text.split("\n").flatMap((line) => {
    const [before, after] = line.split(" - ");
    const [, , , , path, options] = before?.split(" ") ?? [];
    const [type, , superOptions] = after?.split(" ") ?? [];
    if (path === undefined || options === undefined || type === undefined) return [];
    const all = [...options.split(","), ...(superOptions ?? "").split(",")];
    return [{ path: unescaped(path), type, options: new Set(all) }];
  });
}

function readMounts(): Mount[] {
  try {
    return parseMounts(readFileSync("/proc/self/mountinfo", "utf8"));
  } catch {
    return [];
  }
}

/** Spaces and the like stand as `\040`. */
function unescaped(path: string): string {
  return path.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)));
}

const remoteTypes: ReadonlySet<string> = new Set([
  ...["nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "lustre", "gpfs", "beegfs", "glusterfs", "fuse"],
]);
