// Take the compressed copies of the web UI's files away, and out of the list that OpenClaw checks at start:
//   node control_ui.mjs FOLDER
// The list's "generation" is the SHA-256 over its entries: path, size and checksum of each.
import { createHash } from "node:crypto";
import { globSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const folder = process.argv[2];
const list = join(folder, "asset-manifest.json");
const manifest = JSON.parse(readFileSync(list, "utf8"));
const hash = (assets) => {
  const sum = createHash("sha256");
  for (const { path, size, sha256 } of assets) sum.update(`${path}\0${size}\0${sha256}\n`);
  return sum.digest("hex");
};

if (manifest.version !== 1 || hash(manifest.assets) !== manifest.generation) {
  console.error("control_ui: OpenClaw lists its web UI in another way now; its compressed copies stay");
} else {
  for (const copy of globSync("**/*.{br,gz}", { cwd: folder })) rmSync(join(folder, copy));
  manifest.assets = manifest.assets.filter(({ path }) => !/\.(br|gz)$/.test(path));
  manifest.generation = hash(manifest.assets);
  writeFileSync(list, JSON.stringify(manifest));
}
