// Level of detail: how large each node is drawn, and which ones can be told apart at all. A node
// smaller than about a pixel is drawn only where nothing was drawn before, largest families first,
// so the work is bounded by the screen and not by the tree.

const GRAIN = 2.5; // pixels: cells of the grid in which small nodes compete
const SMALL = 2; // radius in pixels below which they do

class Visible {
  constructor(tree) {
    const n = tree.count + 1;
    this.tree = tree;
    this.dot = new Float32Array(n); // radius in pixels
    this.seen = new Uint8Array(n); // drawn in this frame
    this.list = new Int32Array(n); // those drawn, largest families first
    this.count = 0;
    this.hidden = new Uint8Array(tree.levels + 1); // by level
    this.above = tree.parent.slice(); // nearest ancestor on a level that is shown
    this.full = new Float32Array(n); // radius in the middle of the screen
    this.stamp = 0;
    this.cells = new Uint32Array(0);
    const leafCount = Math.max(1, tree.leaves[tree.root]);
    const least = Math.min(5.5, Math.max(2.6, 70 / Math.sqrt(leafCount)));
    for (let i = 0; i < n; i++) {
      this.full[i] = Math.min(13, least + 1.2 * (Math.sqrt(Math.max(1, tree.leaves[i])) - 1));
    }
  }

  setHidden(level, hidden) {
    this.hidden[level] = hidden ? 1 : 0;
    const { tree, above } = this;
    for (let i = 0; i < tree.count; i++) {
      const p = tree.parent[i];
      above[i] = p === tree.root || !this.hidden[tree.depth[p]] ? p : above[p];
    }
  }

  /** Fill `dot`, `seen`, `list` for the scene's present projection. */
  update(scene) {
    const { tree, dot, seen, list, full } = this;
    const { x, y, scale } = scene.nodes;
    const room = scene.room;
    const columns = Math.ceil(scene.width / GRAIN) + 2;
    const rows = Math.ceil(scene.height / GRAIN) + 2;
    if (this.cells.length < columns * rows) this.cells = new Uint32Array(columns * rows);
    const cells = this.cells;
    const stamp = ++this.stamp;
    const grow =
      Math.sqrt(Math.min(9, Math.max(0.6, scene.zoom))) *
      Math.min(1.15, Math.max(0.55, scene.disk / 320));
    const half = scene.radius / 2;
    // Learned points come in heaps: there overlapping dots are the truth.
    const floor = scene.layout.name === "tree" ? 0.9 : 1.7;
    let count = 0;
    for (let k = 0; k < tree.count; k++) {
      const i = tree.order[k];
      seen[i] = 0;
      if (this.hidden[tree.depth[i]]) continue;
      const s = scale[i];
      let r = full[i] * grow * (0.4 + 0.6 * Math.sqrt(s));
      const most = 0.4 * room[i] * half * s;
      if (r > most) r = Math.max(most, Math.min(r, floor));
      dot[i] = r;
      const px = x[i];
      const py = y[i];
      if (px < -r || py < -r || px > scene.width + r || py > scene.height + r) continue;
      if (r < SMALL) {
        const cell = ((py / GRAIN) | 0) * columns + ((px / GRAIN) | 0);
        if (cells[cell] === stamp) continue;
        cells[cell] = stamp;
      }
      seen[i] = 1;
      list[count++] = i;
    }
    dot[tree.root] = 4.5 * grow * (0.5 + 0.5 * Math.sqrt(scale[tree.root]));
    this.count = count;
  }

  /** The node nearest to (x, y) within `reach` pixels of its rim, or -1. The root counts too. */
  nodeAt(scene, x, y, reach) {
    const { tree, seen, dot, list, count } = this;
    let best = -1;
    let least = reach;
    for (let k = -1; k < count; k++) {
      const i = k < 0 ? tree.root : list[k];
      const dx = scene.nodes.x[i] - x;
      const dy = scene.nodes.y[i] - y;
      // A little in favour of the large ones, which lie in front.
      const d = Math.sqrt(dx * dx + dy * dy) - dot[i];
      if (d < least) {
        least = d;
        best = i;
      }
    }
    return best;
  }
}

/** The text nearest to (x, y) of those that are drawn, or -1. */
function textAt(scene, x, y, reach, state) {
  if (!scene.hasTexts) return -1;
  const points = scene.texts;
  const { wrong } = scene.doc.texts;
  const { found } = state;
  let best = -1;
  let least = reach * reach;
  for (let i = 0; i < points.count; i++) {
    const drawn = state.texts || (state.errors && wrong[i]) || (found && found.has[i]);
    if (!drawn) continue;
    const dx = points.x[i] - x;
    const dy = points.y[i] - y;
    const d = dx * dx + dy * dy;
    if (d < least) {
      least = d;
      best = i;
    }
  }
  return best;
}
