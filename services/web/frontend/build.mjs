// Bundle page and worker into ../static/dist, with their digests in their names.
import { rm, writeFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const dist = join(here, "..", "static", "dist");

await rm(dist, { recursive: true, force: true });
const done = await build({
  absWorkingDir: here,
  entryPoints: {
    page: "src/page.ts",
    worker: "src/worker.ts",
    past: "src/past.ts",
    charts: "src/charts.ts",
  },
  outdir: dist,
  entryNames: "[name]-[hash]",
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  legalComments: "linked",
  metafile: true,
});
const manifest = {};
for (const [path, output] of Object.entries(done.metafile.outputs)) {
  if (output.entryPoint) manifest[basename(output.entryPoint, ".ts")] = basename(path);
}
await writeFile(join(dist, "manifest.json"), JSON.stringify(manifest));
