#!/usr/bin/env bash
# Makes a tree that runs p2pcache on any machine of the same kind: its code, its libraries, and its own Node.
#   packaging/install.sh DIRECTORY      default: /opt/p2pcache
# Run it once in a checkout after `npm ci`; copy the directory to the other machines (rsync -a).
set -euo pipefail
cd "$(dirname "$0")/.."
target=${1:-/opt/p2pcache}

if [ -e "$target" ] && [ ! -e "$target/bin/p2pcache" ]; then
  echo "$target is there already and is no p2pcache: choose another directory" >&2
  exit 2
fi
if [ ! -x node_modules/node/bin/node ]; then
  echo "no Node in node_modules: run npm ci first" >&2
  exit 1
fi
mkdir -p "$(dirname "$target")"
new=$(mktemp -d "$target.new.XXXXXX")
trap 'rm -rf "$new"' EXIT

node_modules/.bin/tsc -b
mkdir -p "$new/dist" "$new/cli" "$new/bin" "$new/lib/systemd"
cp -R docs package.json package-lock.json LICENSE CHANGELOG.md "$new/"
for room in protocol node cli; do cp -R "dist/$room" "$new/dist/"; done
cp cli/launcher.js "$new/cli/"
cp packaging/p2pcache.service "$new/lib/systemd/"
# What is installed here already, less what only development needs: no registry is asked.
cp -R node_modules "$new/node_modules"
(cd "$new" && npm prune --omit=dev --offline --no-audit --no-fund --ignore-scripts --loglevel=error >&2)
cp node_modules/node/bin/node "$new/bin/node"
cat > "$new/bin/p2pcache" <<'SH'
#!/bin/sh
here=$(dirname "$(readlink -f "$0")")
exec "$here/node" "$here/../cli/launcher.js" "$@"
SH
chmod 755 "$new" "$new/bin/node" "$new/bin/p2pcache"

# An upgrade takes the place of the old tree at once. A node that runs finds its helpers in the new one, which need not fit:
# it is to be restarted at once.
if [ -e "$target" ]; then
  mv "$target" "$new.old"
  mv "$new" "$target"
  rm -rf "$new.old"
  echo "restart every node that runs from $target now: its helper processes would be those of the new version" >&2
else
  mv "$new" "$target"
fi
trap - EXIT
echo "$target/bin/p2pcache"
