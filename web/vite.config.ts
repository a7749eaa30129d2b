import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

// The server that `npm run dev` talks to.
const server = process.env["VIVARIUM_URL"] ?? "http://127.0.0.1:8188";

export default defineConfig({
  plugins: [react()],
  // Relative, so that the page also works behind a reverse proxy with a path prefix.
  base: "./",
  build: {
    sourcemap: false,
    target: "es2022",
    assetsDir: "assets",
    // One small page: one script and one style sheet load faster than a dozen chunks.
    chunkSizeWarningLimit: 800,
    // Images stay files: a strict `img-src 'self'` then needs no `data:`.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
  server: {
    proxy: {
      "/api": { target: server, changeOrigin: true },
      "/vivarium": { target: server, changeOrigin: true },
      "/ws": { target: server, changeOrigin: true, ws: true },
    },
  },
});
