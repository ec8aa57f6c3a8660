// The view as the part of the address after #, and back. What stands there may come from anybody:
// every value is checked, and what is not understood is ignored.

const NUMBER = /^-?\d{1,9}(\.\d{1,17})?(e-?\d{1,3})?$/;

function writeLink(app) {
  const { scene, state, visible } = app;
  const short = (v) => String(Number(v.toPrecision(12)));
  const parts = ["v=1", `l=${encodeURIComponent(scene.layout.name)}`];
  if (scene.base !== scene.tree.root) parts.push(`b=${scene.base}`);
  const still = scene.view[2] === 0 && scene.view[3] === 0 && scene.view[1] === 0;
  if (!still) parts.push(`m=${Array.from(scene.view, short).join(",")}`);
  if (scene.zoom !== 1) parts.push(`z=${short(scene.zoom)}`);
  if (scene.panX || scene.panY) {
    // In radii of the disk: screens differ.
    parts.push(`p=${short(scene.panX / scene.disk)},${short(scene.panY / scene.disk)}`);
  }
  if (state.node >= 0) parts.push(`n=${state.node}`);
  if (state.text >= 0) parts.push(`t=${state.text}`);
  if (state.found) parts.push(`q=${encodeURIComponent(shortened(state.found.said, 200))}`);
  const flags = ["texts", "cones", "errors"].filter((name) => state[name]).map((name) => name[0]);
  if (flags.length) parts.push(`s=${flags.join("")}`);
  if (state.density !== DENSITY) parts.push(`d=${short(state.density)}`);
  const hidden = [];
  for (let d = 1; d < visible.hidden.length; d++) if (visible.hidden[d]) hidden.push(d);
  if (hidden.length) parts.push(`h=${hidden.join(",")}`);
  // Else the system says, of whoever opens the link.
  if (app.themeChosen) parts.push(`c=${app.onScreen || app.theme.name}`);
  return `#${parts.join("&")}`;
}

/** Values of a fragment that can be used with this page, or null if it is not one of ours. */
function readLink(app, fragment) {
  const { scene, doc } = app;
  if (fragment.length > 4000) return null;
  const given = new Map();
  for (const part of fragment.replace(/^#/, "").split("&")) {
    const at = part.indexOf("=");
    if (at > 0) given.set(part.slice(0, at), part.slice(at + 1));
  }
  if (given.get("v") !== "1") return null;
  const numbers = (key, count) => {
    const values = (given.get(key) || "").split(",");
    if (values.length !== count || !values.every((v) => NUMBER.test(v))) return null;
    const result = values.map(Number);
    return result.every(Number.isFinite) ? result : null;
  };
  const index = (key, limit) => {
    const value = numbers(key, 1);
    return value && Number.isInteger(value[0]) && value[0] >= 0 && value[0] < limit ? value[0] : -1;
  };
  const link = { layout: 0, base: scene.tree.root, view: identity(), zoom: 1, pan: [0, 0] };
  const words = (key) => {
    try {
      return decodeURIComponent(given.get(key) || "");
    } catch {
      return "";
    }
  };
  const name = words("l");
  link.layout = Math.max(
    0,
    doc.layouts.findIndex((layout) => layout.name === name),
  );
  const base = index("b", scene.tree.count + 1);
  if (base >= 0) link.base = base;
  const m = numbers("m", 4);
  if (m && (base >= 0 || !given.has("b"))) {
    const size = m[0] * m[0] + m[1] * m[1];
    const rest = size - m[2] * m[2] - m[3] * m[3];
    // An isometry, and one near its base.
    if (size < 1e6 && Math.abs(rest - 1) < 1e-3) {
      link.view = Float64Array.from(m, (v) => v / Math.sqrt(rest));
    }
  }
  const zoom = numbers("z", 1);
  if (zoom) link.zoom = Math.min(40, Math.max(0.4, zoom[0]));
  const pan = numbers("p", 2);
  if (pan) link.pan = pan.map((v) => Math.min(50, Math.max(-50, v)));
  link.node = index("n", scene.tree.count + 1);
  link.text = doc.texts ? index("t", doc.texts.count) : -1;
  link.found = words("q");
  const flags = given.get("s") || "";
  for (const flag of ["texts", "cones", "errors"]) link[flag] = flags.includes(flag[0]);
  const density = numbers("d", 1);
  link.density = density ? Math.min(1, Math.max(0, density[0])) : DENSITY;
  link.hidden = (given.get("h") || "")
    .split(",")
    .filter((v) => /^\d{1,4}$/.test(v))
    .map(Number);
  const theme = given.get("c");
  link.theme = theme === "dark" || theme === "light" ? theme : "";
  return link;
}

/** Show what a link says. */
function followLink(app, link) {
  const { scene, state, visible } = app;
  app.motion.stop();
  scene.base = link.base;
  scene.setLayout(link.layout);
  scene.view = link.view;
  scene.zoom = link.zoom;
  scene.panX = link.pan[0] * scene.disk;
  scene.panY = link.pan[1] * scene.disk;
  scene.keepInSight();
  for (const name of ["texts", "cones", "errors", "density"]) state[name] = link[name];
  for (let d = 1; d <= scene.tree.levels; d++) visible.setHidden(d, link.hidden.includes(d));
  state.node = link.text >= 0 ? -1 : link.node;
  state.text = link.text;
  state.found = state.node < 0 && link.found ? app.search.textMatches(link.found) : null;
  if (link.theme) app.setTheme(link.theme);
}
