// The colours of hyperlm/viz/palette.py (a test keeps the two alike), and what is made of them.

const PALETTES = {
  light: {
    paper: "#ffffff",
    disk: "#f7f7fa",
    rim: "#b9bcc8",
    ink: "#16181f",
    muted: "#5d6270",
    classes: [
      "#1833b4",
      "#c58413",
      "#367b35",
      "#b77cff",
      "#cc0521",
      "#1fb7ac",
      "#4f79ba",
      "#c1b364",
      "#a5107b",
      "#f81f80",
      "#833443",
      "#d8adfa",
    ],
    error: "#b3261e",
  },
  dark: {
    paper: "#12141b",
    disk: "#191c25",
    rim: "#4a4f60",
    ink: "#f3f4f8",
    muted: "#9ea4b4",
    classes: [
      "#1f6df2",
      "#d17b10",
      "#adda34",
      "#f56a9d",
      "#d8be60",
      "#0686b9",
      "#fb9f85",
      "#679445",
      "#f7bdfc",
      "#55bcbd",
      "#88f1bb",
      "#7da3fd",
    ],
    error: "#ff8a80",
  },
};
const MARKERS = ["o", "s", "^", "D", "v", "P", "X", "p"];

function channels(color) {
  return [1, 3, 5].map((i) => parseInt(color.slice(i, i + 2), 16));
}

/** `color` with `share` of `other` in it. */
function mixed(color, other, share) {
  const a = channels(color);
  const b = channels(other);
  return (
    "#" +
    a
      .map((v, i) =>
        Math.round(v + share * (b[i] - v))
          .toString(16)
          .padStart(2, "0"),
      )
      .join("")
  );
}

/** As one number in the byte order of ImageData, opaque. */
function packed(color) {
  const [r, g, b] = channels(color);
  return (0xff000000 | (b << 16) | (g << 8) | r) >>> 0;
}

function makeTheme(name) {
  const base = PALETTES[name];
  const of = (f) => base.classes.map(f);
  return {
    ...base,
    name,
    edges: of((c) => mixed(c, base.disk, 0.35)),
    paleEdges: of((c) => mixed(c, base.disk, 0.6)),
    texts: of((c) => mixed(c, base.ink, 0.45)),
    packed: Uint32Array.from(base.classes, packed),
    packedText: Uint32Array.from(of((c) => packed(mixed(c, base.disk, 0.25)))),
    packedInk: packed(base.muted),
    packedError: packed(base.error),
    veil: base.disk + "c8",
  };
}

const THEMES = { light: makeTheme("light"), dark: makeTheme("dark") };

function classOf(top) {
  return top < 0 ? 0 : top % PALETTES.light.classes.length;
}

function markerOf(top) {
  return top < 0 ? "o" : MARKERS[Math.floor(top / PALETTES.light.classes.length) % MARKERS.length];
}
