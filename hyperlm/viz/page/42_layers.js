// What lies over or under the tree on request: cones, mistaken texts, the path of what is chosen.

/** Whose cones are drawn: on the path to the chosen node and of its children, or the top classes. */
function conedNodes(scene, state) {
  const { tree } = scene;
  const node = state.node >= 0 ? state.node : tree.root;
  const kids = Array.from(childrenOf(tree, node)).slice(0, 40);
  return pathOf(tree, node).concat(kids);
}

function conePath(painter, context, node) {
  const { scene } = painter;
  const { cones, nodes } = scene;
  const a = applied(scene.view, cones[4 * node], cones[4 * node + 1]);
  const b = applied(scene.view, cones[4 * node + 2], cones[4 * node + 3]);
  const x = nodes.wx[node];
  const y = nodes.wy[node];
  painter.trace(context, x, y, a[0], a[1]);
  const from = -Math.atan2(a[1], a[0]);
  const to = -Math.atan2(b[1], b[0]);
  context.arc(scene.centreX, scene.centreY, scene.radius, from, to, true);
  painter.trace(context, b[0], b[1], x, y, false);
  context.closePath();
}

function paintCones(painter, context, theme, state) {
  const { scene } = painter;
  if (!scene.layout.cones) return;
  scene.placeCones();
  context.lineWidth = 1;
  for (const i of conedNodes(scene, state)) {
    if (painter.visible.hidden[scene.tree.depth[i]] || scene.nodes.scale[i] < 1e-4) continue;
    const color = theme.classes[classOf(scene.tree.top[i])];
    context.beginPath();
    conePath(painter, context, i);
    context.globalAlpha = 0.09;
    context.fillStyle = color;
    context.fill();
    context.globalAlpha = 0.45;
    context.strokeStyle = color;
    context.stroke();
  }
  context.globalAlpha = 1;
}

const LINE_GRAIN = 5; // pixels: of two mistakes that start and end together one line is drawn
const MOST_LINES = 1200;
const FOUND_REACH = 4; // radius of the mark of a text that was found

/** A cross at each mistaken text, a line from it to its right label. */
function paintErrors(painter, context, theme) {
  const { scene } = painter;
  const { gold, wrong, mistakes } = scene.doc.texts;
  const points = scene.texts;
  const nodes = scene.nodes;
  const hash = paintErrors.hash;
  hash.fill(0);
  let lines = 0;
  let crosses = 0;
  context.beginPath();
  for (let i = 0; i < points.count && lines < MOST_LINES; i++) {
    if (!wrong[i] || !onScreen(scene, points.x[i], points.y[i])) continue;
    const g = gold[i];
    const a = (points.x[i] / LINE_GRAIN) | 0;
    const b = (points.y[i] / LINE_GRAIN) | 0;
    const slot =
      (Math.imul(a, 73856093) ^ Math.imul(b, 19349663) ^ Math.imul(g, 83492791)) & 0xffff;
    if (hash[slot]) continue;
    hash[slot] = 1;
    painter.trace(context, points.wx[i], points.wy[i], nodes.wx[g], nodes.wy[g]);
    lines++;
  }
  context.lineWidth = 0.9;
  context.globalAlpha = lines > 300 ? 0.22 : 0.4;
  context.strokeStyle = theme.error;
  context.stroke();
  hash.fill(0);
  context.beginPath();
  for (let i = 0; i < points.count; i++) {
    const x = points.x[i];
    const y = points.y[i];
    if (!wrong[i] || !onScreen(scene, x, y)) continue;
    const slot = (Math.imul((x / 3) | 0, 73856093) ^ Math.imul((y / 3) | 0, 19349663)) & 0xffff;
    if (hash[slot]) continue;
    hash[slot] = 1;
    const r = mistakes > 400 ? 1.8 : 2.6;
    context.moveTo(x - r, y - r);
    context.lineTo(x + r, y + r);
    context.moveTo(x - r, y + r);
    context.lineTo(x + r, y - r);
    crosses++;
  }
  context.globalAlpha = 0.85;
  context.lineWidth = 1;
  context.stroke();
  context.globalAlpha = 1;
  painter.errorCount = crosses;
}
paintErrors.hash = new Uint8Array(0x10000);

function onScreen(scene, x, y) {
  return x >= 0 && y >= 0 && x <= scene.width && y <= scene.height;
}

/** The way from the root to a node, thick; for a text also the way to it. */
function paintPath(painter, context, theme, state) {
  const text = state.text >= 0 && painter.scene.hasTexts ? state.text : -1;
  if (text >= 0) {
    const { gold, predicted } = painter.scene.doc.texts;
    const g = gold[text];
    const p = predicted[text];
    if (g >= 0 && g !== p) tracePath(painter, context, g, theme.muted, [2, 5]);
    if (p >= 0) tracePath(painter, context, p, classColor(painter, theme, p), []);
    const end = p >= 0 ? p : g;
    const points = painter.scene.texts;
    if (end >= 0) spoke(painter, context, theme, points.wx[text], points.wy[text], end);
  }
  if (state.answer) {
    const { nodes, place } = state.answer;
    const end = nodes.length ? nodes[nodes.length - 1] : -1;
    if (end >= 0) {
      tracePath(painter, context, end, classColor(painter, theme, end), []);
      if (place) {
        const w = painter.scene.locate(place[0], place[1]);
        spoke(painter, context, theme, w[0], w[1], end);
      }
    }
  }
  if (state.node >= 0) {
    tracePath(painter, context, state.node, classColor(painter, theme, state.node), []);
  }
}

function classColor(painter, theme, node) {
  const { tree } = painter.scene;
  return node === tree.root ? theme.ink : theme.classes[classOf(tree.top[node])];
}

function tracePath(painter, context, node, color, dash) {
  const { wx, wy } = painter.scene.nodes;
  const { above, tree } = painter.visible;
  context.beginPath();
  for (let n = node; n !== tree.root; n = above[n]) {
    painter.trace(context, wx[above[n]], wy[above[n]], wx[n], wy[n]);
  }
  context.setLineDash(dash);
  context.lineWidth = 3;
  context.strokeStyle = color;
  context.stroke();
  context.setLineDash([]);
}

function spoke(painter, context, theme, x, y, node) {
  const { wx, wy } = painter.scene.nodes;
  context.beginPath();
  painter.trace(context, x, y, wx[node], wy[node]);
  context.setLineDash([4, 3]);
  context.lineWidth = 1.2;
  context.strokeStyle = theme.ink;
  context.stroke();
  context.setLineDash([]);
}

/** Rings around what is chosen and what the pointer is on; the typed text. */
function paintMarks(painter, context, theme, state) {
  const { scene, visible } = painter;
  const { x, y } = scene.nodes;
  context.strokeStyle = theme.ink;
  if (state.hoverNode >= 0 && state.hoverNode !== state.node) {
    ring(context, x[state.hoverNode], y[state.hoverNode], visible.dot[state.hoverNode] + 3, 1.25);
  }
  if (state.node >= 0) {
    ring(
      context,
      x[state.node],
      y[state.node],
      visible.dot[state.node] + 3.5,
      state.focused ? 3 : 2,
    );
  }
  if (scene.hasTexts) {
    if (state.found) paintFound(context, scene, theme, state.found.texts);
    for (const text of [state.hoverText, state.text]) {
      if (text < 0) continue;
      context.fillStyle = scene.doc.texts.wrong[text] ? theme.error : theme.ink;
      context.beginPath();
      context.arc(scene.texts.x[text], scene.texts.y[text], 4, 0, 2 * Math.PI);
      context.fill();
      ring(context, scene.texts.x[text], scene.texts.y[text], 7, 1.5);
    }
  }
  if (state.answer && state.answer.place) {
    const w = scene.locate(state.answer.place[0], state.answer.place[1]);
    const px = scene.centreX + scene.radius * w[0];
    const py = scene.centreY - scene.radius * w[1];
    context.fillStyle = theme.ink;
    context.strokeStyle = theme.paper;
    context.lineWidth = 2;
    context.beginPath();
    markerPath(context, "D", px, py, 7);
    context.stroke();
    context.fill();
  }
}

/** A dot with a rim at each text that was found: it stands out from those that were not. One for
 * those that fall on the same place; mistaken ones come first, and are seen. */
function paintFound(context, scene, theme, texts) {
  const { x, y } = scene.texts;
  const { wrong } = scene.doc.texts;
  const hash = paintErrors.hash;
  hash.fill(0);
  const shown = [];
  for (const kind of [1, 0]) {
    for (const text of texts) {
      if (wrong[text] !== kind || !onScreen(scene, x[text], y[text])) continue;
      const slot = (Math.imul((x[text] / 3) | 0, 73856093) ^ Math.imul((y[text] / 3) | 0, 19349663)) & 0xffff;
      if (!hash[slot]) shown.push(text);
      hash[slot] = 1;
    }
  }
  // Each by itself: a path of thousands of circles takes many times longer.
  const dots = (radius, color) => {
    for (const text of shown) {
      context.fillStyle = color(text);
      context.beginPath();
      context.arc(x[text], y[text], radius, 0, 2 * Math.PI);
      context.fill();
    }
  };
  dots(FOUND_REACH, () => theme.paper);
  dots(FOUND_REACH - 1, (text) => (wrong[text] ? theme.error : theme.ink));
}

function ring(context, x, y, r, width) {
  context.lineWidth = width;
  context.beginPath();
  context.arc(x, y, r, 0, 2 * Math.PI);
  context.stroke();
}
