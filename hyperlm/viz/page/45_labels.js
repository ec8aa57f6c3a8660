// Names: which ones, and where. The most important visible nodes come first; a name is written only
// where it covers neither another name nor a dot, and rather where it crosses no edges.

const MOST_LABELS = 420;
const MOST_TRIES = 1600;
const LONGEST = 30; // characters
const BINS = 512;

class Labels {
  constructor(tree, rootName) {
    const n = tree.count + 1;
    this.tree = tree;
    this.rootName = rootName;
    this.words = new Array(n).fill(null); // shortened when first drawn
    this.widths = new Float32Array(n); // at 10 pixels, regular
    this.boldWidths = new Float32Array(n);
    this.wasShown = new Uint8Array(n); // 1 + where it stood
    this.shown = new Uint8Array(n);
    this.bin = new Uint16Array(n);
    this.tries = new Int32Array(MOST_TRIES);
    this.starts = new Int32Array(BINS + 1);
    this.count = 0;
    this.node = new Int32Array(MOST_LABELS);
    this.x = new Float32Array(MOST_LABELS); // left end of the baseline
    this.y = new Float32Array(MOST_LABELS);
    this.angle = new Float32Array(MOST_LABELS);
    this.width = new Float32Array(MOST_LABELS);
    this.size = new Float32Array(MOST_LABELS);
    this.bold = new Uint8Array(MOST_LABELS);
    this.grid = new LabelGrid();
    this.px = 0; // see stand
    this.py = 0;
    this.turn = 0;
    this.ruler = document.createElement("canvas").getContext("2d");
  }

  text(node) {
    if (this.words[node] === null) {
      const name = node === this.tree.root ? this.rootName : this.tree.names[node];
      this.words[node] = shortened(name, LONGEST) || "\u25a1";
    }
    return this.words[node];
  }

  measure(node, size, bold) {
    const known = bold ? this.boldWidths : this.widths;
    if (known[node] === 0) {
      this.ruler.font = `${bold ? "600 " : ""}20px ${FONT}`;
      known[node] = this.ruler.measureText(this.text(node)).width / 2 + 0.01;
    }
    return (known[node] * size) / 10;
  }

  /** Choose and place the names of the present frame. */
  place(scene, visible, state) {
    const { tree, starts, bin, tries } = this;
    this.grid.clear(scene);
    const { x, y, scale } = scene.nodes;
    // Dots are obstacles, but where they crowd nothing could be written at all.
    for (let k = 0; k < visible.count; k++) {
      const i = visible.list[k];
      if (visible.dot[i] >= SMALL) this.grid.stampDot(x[i], y[i], visible.dot[i]);
    }
    this.grid.stampDot(x[tree.root], y[tree.root], visible.dot[tree.root]);
    if (state.answer && state.answer.place) {
      const w = scene.locate(state.answer.place[0], state.answer.place[1]);
      this.grid.stampDot(
        scene.centreX + scene.radius * w[0],
        scene.centreY - scene.radius * w[1],
        9,
      );
    }
    this.grid.stampEdges(scene, visible);
    const density = state.density;
    this.dense = density > 0.7; // names may cover small dots
    let most = density <= 0 ? 0 : Math.round(Math.min(MOST_LABELS - 8, 14 * 34 ** density));
    if (density >= 0.5 && visible.count < 200) most = Math.max(most, visible.count); // room decides
    // Bins by importance, read from the last one down: a sort without a comparison.
    starts.fill(0);
    const large = Math.log2(1 + tree.leaves[tree.root]) + 1;
    // Below this scale names are left out; a sparse page wants only what lies near the centre.
    const least = density >= 0.95 ? 0 : 0.12 * (1 - density) ** 2;
    for (let k = 0; k < visible.count; k++) {
      const i = visible.list[k];
      const s = scale[i];
      if (s < least && tree.depth[i] > 1) {
        bin[i] = 0;
        continue;
      }
      const family = Math.log2(1 + tree.leaves[i]) / large;
      let score = Math.sqrt(s) * (0.35 + 0.65 * family);
      if (tree.depth[i] === 1 && tree.children[i]) score = 0.6 + 0.4 * score;
      if (this.wasShown[i]) score *= 1.12; // names do not flicker while the plane glides
      const b = 1 + Math.min(BINS - 2, (score * (BINS - 2)) | 0);
      bin[i] = b;
      starts[b]++;
    }
    let floor = BINS - 1;
    let total = 0;
    for (let b = BINS - 1; b > 0 && total < MOST_TRIES; b--) {
      const n = starts[b];
      starts[b] = total;
      total += n;
      floor = b;
    }
    total = Math.min(total, MOST_TRIES);
    for (let k = 0; k < visible.count; k++) {
      const i = visible.list[k];
      if (bin[i] < floor || bin[i] === 0) continue;
      const at = starts[bin[i]]++;
      if (at < MOST_TRIES) tries[at] = i;
    }
    this.shown.fill(0);
    this.count = 0;
    // What the reader points at is named whatever it covers.
    this.force(scene, visible, state.node);
    this.force(scene, visible, state.hoverNode);
    if (state.text >= 0) {
      const { predicted, gold } = scene.doc.texts;
      this.force(scene, visible, predicted[state.text]);
      this.force(scene, visible, gold[state.text]);
    }
    if (state.answer && state.answer.nodes.length) {
      this.force(scene, visible, state.answer.nodes[state.answer.nodes.length - 1]);
    }
    for (let k = 0; k < total && this.count < most; k++) {
      const i = tries[k];
      if (!this.shown[i]) this.tryNode(scene, visible, i, false);
    }
    const swap = this.wasShown;
    this.wasShown = this.shown;
    this.shown = swap;
  }

  force(scene, visible, node) {
    if (node < 0 || this.shown[node] || scene.nodes.scale[node] < 1e-5) return;
    this.tryNode(scene, visible, node, true);
  }

  sizeOf(node, scene) {
    const { tree } = this;
    const fit = Math.max(0.75, Math.min(1, scene.disk / 240)); // a phone's disk is small
    if (node === tree.root) return 13;
    if (tree.depth[node] === 1 && tree.children[node]) {
      const tops = tree.children[tree.root];
      return fit * (tops <= 12 ? 16 : tops <= 30 ? 14 : 13);
    }
    return tree.children[node] ? 12.5 : 11.5;
  }

  tryNode(scene, visible, i, forced) {
    const { tree } = this;
    const bold = tree.depth[i] === 1 && tree.children[i] > 0;
    const size = this.sizeOf(i, scene);
    const width = this.measure(i, size, bold);
    const x = scene.nodes.x[i];
    const y = scene.nodes.y[i];
    const gap = visible.dot[i] + 3.5;
    const up = 0.74 * size;
    const down = 0.24 * size;
    // Away from the parent, where no edge of its own is.
    const p = visible.above[i];
    const left = p >= 0 && scene.nodes.x[p] > x;
    const before = this.wasShown[i] - 1;
    // Near the rim of the tree, where siblings leave no room for a line of type.
    const s = scene.nodes.scale[i];
    const leaf = !tree.children[i];
    const row = 0.5 * scene.radius * s * scene.room[i]; // pixels to the next sibling
    const radial =
      scene.layout.name === "tree" && !bold && s < 0.6 && row < (leaf ? 2.2 : 1.1) * size;
    // Among names along the radius a level one would stand in the way of several.
    const ways = radial && !forced ? 1 : bold || forced || !leaf ? 9 : 6;
    let best = -1;
    let least = 1e9;
    // A top class in a heap is worth a few covered dots.
    for (
      let mask = forced ? NAME : NAME | DOT;
      mask > 0 && best < 0;
      mask = (bold || this.dense) && mask & DOT ? NAME : 0
    ) {
      for (let way = 0; way < ways; way++) {
        if (way === 0 && !radial) continue;
        this.stand(scene, way, x, y, width, size, gap, up, down, left);
        const edges = this.grid.fits(scene, this.px, this.py, width, up, down, this.turn, mask);
        if (edges < 0) continue;
        // A place held in the last frame is kept unless another is much better.
        const cost = edges + 1.5 * way - (way === before ? 9 : 0) - (way === 0 ? 12 : 0);
        if (cost < least) {
          least = cost;
          best = way;
        }
        if (cost <= 1.5) break;
      }
    }
    if (best >= 0) {
      this.stand(scene, best, x, y, width, size, gap, up, down, left);
      this.add(i, this.px, this.py, width, size, bold, this.turn, up, down, best);
      return true;
    }
    if (forced && onScreen(scene, x, y)) {
      const px = Math.max(2, Math.min(scene.width - width - 2, x + gap));
      this.add(i, px, y + 0.35 * size, width, size, bold, 0, up, down, 1);
      return true;
    }
    return false;
  }

  /** Where the baseline begins for one of the ways to stand at (x, y): sets px, py, turn. */
  stand(scene, way, x, y, width, size, gap, up, down, left) {
    this.px = x;
    this.py = y + 0.35 * size;
    this.turn = 0;
    if (way === 0) {
      // Outward along the radius, never upside down.
      const dx = x - scene.centreX;
      const dy = y - scene.centreY;
      const d = Math.sqrt(dx * dx + dy * dy) || 1;
      const turned = dx < 0;
      const start = turned ? gap + width : gap;
      this.turn = Math.atan2(turned ? -dy : dy, turned ? -dx : dx);
      this.px = x + (dx / d) * start - Math.sin(this.turn) * 0.35 * size;
      this.py = y + (dy / d) * start + Math.cos(this.turn) * 0.35 * size;
    } else if (way === 1) {
      this.px += left ? -gap - width : gap; // level, on the far side of the parent
    } else if (way === 2) {
      this.px += left ? gap : -gap - width;
    } else if (way < 5) {
      this.px -= width / 2;
      this.py = way === 3 ? y - gap - down : y + gap + up;
    } else {
      // Askew: above or below, on the far side first.
      const right = left === way > 6;
      this.px += right ? 0.7 * gap : -0.7 * gap - width;
      this.py = way % 2 ? y - 0.7 * gap - down : y + 0.7 * gap + up;
    }
  }

  add(node, x, y, width, size, bold, angle, up, down, way) {
    const k = this.count++;
    this.node[k] = node;
    this.x[k] = x;
    this.y[k] = y;
    this.width[k] = width;
    this.size[k] = size;
    this.bold[k] = bold ? 1 : 0;
    this.angle[k] = angle;
    this.shown[node] = way + 1;
    this.grid.sweep(x, y, width, up, down, angle, 0);
  }

  paint(context, theme) {
    const { tree } = this;
    context.textBaseline = "alphabetic";
    context.textAlign = "left";
    context.lineJoin = "round";
    let font = "";
    for (let k = this.count - 1; k >= 0; k--) {
      const i = this.node[k];
      const size = this.size[k];
      const wanted = `${this.bold[k] ? "600 " : ""}${size}px ${FONT}`;
      if (wanted !== font) context.font = font = wanted;
      const turned = this.angle[k] !== 0;
      if (turned) {
        context.save();
        context.translate(this.x[k], this.y[k]);
        context.rotate(this.angle[k]);
      }
      const x = turned ? 0 : this.x[k];
      const y = turned ? 0 : this.y[k];
      if (this.bold[k]) {
        context.lineWidth = 3.5;
        context.strokeStyle = theme.disk;
        context.strokeText(this.text(i), x, y);
      } else if (!turned) {
        context.fillStyle = theme.veil;
        context.fillRect(x - 1.5, y - 0.78 * size, this.width[k] + 3, 1.04 * size);
      }
      context.fillStyle = i === tree.root ? theme.ink : theme.texts[classOf(tree.top[i])];
      context.fillText(this.text(i), x, y);
      if (turned) context.restore();
    }
  }
}
