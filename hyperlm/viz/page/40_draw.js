// One frame on a canvas: disk, cones, texts, edges, nodes, names. Nothing is allocated per frame;
// edges are sorted into batches of one colour and width, small dots are written as pixels.

const WIDTHS = [0.8, 1, 1.7, 2.8]; // hairlines are much cheaper than strokes
const FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif';

class Painter {
  constructor(scene, visible, labels) {
    this.scene = scene;
    this.visible = visible;
    this.labels = labels;
    const n = scene.tree.count + 1;
    this.batch = new Uint8Array(n);
    this.sorted = new Int32Array(n);
    this.starts = new Int32Array(12 * WIDTHS.length + 1);
    this.fill = new Int32Array(12 * WIDTHS.length + 1);
    this.circle = new Float64Array(3);
    this.pixels = new PixelLayer();
    this.dust = new PixelLayer();
  }

  /** Draw into `context`, whose pixels are `ratio` to one of the scene's. */
  paint(context, ratio, theme, state) {
    const { scene, visible } = this;
    scene.project(Boolean(state.texts || state.errors || state.found || state.text >= 0));
    visible.update(scene);
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.fillStyle = theme.paper;
    context.fillRect(0, 0, scene.width, scene.height);
    this.paintDisk(context, theme);
    if (state.cones) paintCones(this, context, theme, state);
    if (state.texts && scene.hasTexts) this.paintTexts(context, ratio, theme);
    if (state.errors && scene.hasTexts) paintErrors(this, context, theme);
    this.paintEdges(context, theme);
    paintPath(this, context, theme, state);
    this.paintNodes(context, ratio, theme);
    this.labels.place(scene, visible, state);
    this.labels.paint(context, theme);
    paintMarks(this, context, theme, state);
  }

  paintDisk(context, theme) {
    const { scene } = this;
    context.beginPath();
    context.arc(scene.centreX, scene.centreY, scene.radius, 0, 2 * Math.PI);
    context.fillStyle = theme.disk;
    context.fill();
    context.lineWidth = 1.25;
    context.strokeStyle = theme.rim;
    context.stroke();
  }

  /** Add the geodesic from node a to node b to the current path: an arc, or a line if no eye could
   * tell the difference. */
  trace(context, ax, ay, bx, by, move = true) {
    const { scene, circle } = this;
    const R = scene.radius;
    const cx = scene.centreX;
    const cy = scene.centreY;
    geodesicCircle(ax, ay, bx, by, circle);
    const radius = circle[2];
    const dx = bx - ax;
    const dy = by - ay;
    if (move) context.moveTo(cx + R * ax, cy - R * ay);
    // The arc's height over its chord, in pixels: chord^2 / (8 radius).
    if (radius === 0 || ((dx * dx + dy * dy) * R) / (8 * radius) < 0.2) {
      context.lineTo(cx + R * bx, cy - R * by);
      return;
    }
    const from = Math.atan2(circle[1] - ay, ax - circle[0]);
    const to = Math.atan2(circle[1] - by, bx - circle[0]);
    let turn = to - from;
    turn -= 2 * Math.PI * Math.round(turn / (2 * Math.PI)); // inside the disk lies the short part
    context.arc(cx + R * circle[0], cy - R * circle[1], R * radius, from, to, turn < 0);
  }

  paintEdges(context, theme) {
    const { scene, visible, batch, starts, fill, sorted } = this;
    const { tree } = visible;
    const { x, y, wx, wy } = scene.nodes;
    const batches = 12 * WIDTHS.length;
    starts.fill(0);
    const thin = tree.count > 400 ? 0 : 1;
    const right = scene.width;
    const bottom = scene.height;
    const mx = scene.centreX;
    const my = scene.centreY;
    for (let k = 0; k < tree.count; k++) {
      const i = tree.order[k];
      batch[i] = 255;
      if (visible.hidden[tree.depth[i]]) continue;
      const p = visible.above[i];
      const leaf = tree.children[i] === 0;
      if (leaf && !visible.seen[i] && visible.dot[i] < SMALL) {
        // Its place is taken: another edge of the same parent ends there already.
        if (x[i] >= 0 && y[i] >= 0 && x[i] <= right && y[i] <= bottom) continue;
      }
      const dx = x[i] - x[p];
      const dy = y[i] - y[p];
      if (dx * dx + dy * dy < 0.5) continue;
      // The arc lies inside the triangle of its ends and the centre.
      if (Math.min(x[i], x[p], mx) > right || Math.max(x[i], x[p], mx) < 0) continue;
      if (Math.min(y[i], y[p], my) > bottom || Math.max(y[i], y[p], my) < 0) continue;
      const many = tree.leaves[i];
      const strong = Math.sqrt(many) * (0.3 + 0.7 * scene.nodes.scale[p]);
      const w = leaf ? thin : strong > 5 ? 3 : strong > 2 ? 2 : 1;
      const b = WIDTHS.length * classOf(tree.top[i]) + w;
      batch[i] = b;
      starts[b + 1]++;
    }
    for (let b = 0; b < batches; b++) starts[b + 1] += starts[b];
    fill.set(starts);
    for (let i = 0; i < tree.count; i++) if (batch[i] !== 255) sorted[fill[batch[i]]++] = i;
    context.lineCap = "round";
    for (let w = 0; w < WIDTHS.length; w++) {
      context.lineWidth = WIDTHS[w];
      for (let c = 0; c < 12; c++) {
        const b = WIDTHS.length * c + w;
        if (starts[b] === starts[b + 1]) continue;
        context.strokeStyle = w === 0 ? theme.paleEdges[c] : theme.edges[c];
        context.beginPath();
        for (let k = starts[b]; k < starts[b + 1]; k++) {
          const i = sorted[k];
          const p = visible.above[i];
          this.trace(context, wx[p], wy[p], wx[i], wy[i]);
        }
        context.stroke();
      }
    }
    this.edgeCount = starts[batches];
    if (tree.also.length) this.paintOthers(context, theme);
  }

  /** Edges of a DAG beside those of the drawn tree. */
  paintOthers(context, theme) {
    const { scene, visible } = this;
    const { tree } = visible;
    const { x, y, wx, wy } = scene.nodes;
    const byClass = [];
    for (const [child, parent] of tree.also) {
      if (visible.hidden[tree.depth[child]] || visible.hidden[tree.depth[parent]]) continue;
      if (Math.hypot(x[child] - x[parent], y[child] - y[parent]) < 2) continue;
      // As in paintEdges: the arc lies inside the triangle of its ends and the centre.
      const across = [x[child], x[parent], scene.centreX];
      const down = [y[child], y[parent], scene.centreY];
      if (Math.min(...across) > scene.width || Math.max(...across) < 0) continue;
      if (Math.min(...down) > scene.height || Math.max(...down) < 0) continue;
      const c = classOf(tree.top[parent]);
      if (byClass[c]) byClass[c].push(child, parent);
      else byClass[c] = [child, parent];
    }
    context.lineWidth = 1;
    context.setLineDash([4, 4]);
    byClass.forEach((ends, c) => {
      context.strokeStyle = theme.edges[c];
      context.beginPath();
      for (let k = 0; k < ends.length; k += 2) {
        this.trace(context, wx[ends[k + 1]], wy[ends[k + 1]], wx[ends[k]], wy[ends[k]]);
      }
      context.stroke();
    });
    context.setLineDash([]);
  }

  paintNodes(context, ratio, theme) {
    const { scene, visible, dust } = this;
    const { tree, list, dot } = visible;
    const { x, y } = scene.nodes;
    dust.begin(scene, ratio);
    let large = 0;
    for (let k = 0; k < visible.count; k++) {
      const i = list[k];
      if (dot[i] >= SMALL) {
        large++;
        continue;
      }
      dust.dot(x[i] * ratio, y[i] * ratio, dot[i] * ratio, theme.packed[classOf(tree.top[i])]);
    }
    dust.end(context, scene);
    // Small families first: the large ones lie on top of them.
    if (large) {
      context.lineWidth = 0.8;
      context.strokeStyle = theme.disk;
      for (let k = visible.count - 1; k >= 0; k--) {
        const i = list[k];
        if (dot[i] < SMALL) continue;
        context.fillStyle = theme.classes[classOf(tree.top[i])];
        context.beginPath();
        markerPath(context, dot[i] < 2.5 ? "o" : markerOf(tree.top[i]), x[i], y[i], dot[i]);
        context.fill();
        if (dot[i] > 3) context.stroke();
      }
    }
    const root = tree.root;
    context.fillStyle = theme.ink;
    context.beginPath();
    context.arc(x[root], y[root], dot[root], 0, 2 * Math.PI);
    context.fill();
  }

  paintTexts(context, ratio, theme) {
    const { scene, pixels } = this;
    const { x, y, scale, count } = scene.texts;
    const { gold, predicted } = scene.doc.texts;
    const top = scene.tree.top;
    pixels.begin(scene, ratio);
    pixels.strength = count > 4000 ? 105 : 160;
    const size =
      ratio *
      Math.min(
        4,
        (count > 4000 ? 1.5 : count > 800 ? 2.1 : 2.9) * Math.sqrt(Math.max(1, scene.zoom)),
      );
    for (let i = 0; i < count; i++) {
      const node = gold[i] >= 0 ? gold[i] : predicted[i];
      const color = node < 0 ? theme.packedInk : theme.packedText[classOf(top[node])];
      pixels.haze(x[i] * ratio, y[i] * ratio, size * (0.8 + 0.5 * scale[i]), color);
    }
    pixels.end(context, scene);
  }
}
