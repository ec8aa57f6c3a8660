// What the eye looks at: the layout, a base node near the centre, and the isometry from the base's
// frame to the screen. Positions relative to the base are made from the tangents once, exactly;
// a frame then costs one division per point. When the centre has moved far from the base, the
// nearest node becomes the base, so that no rounding piles up however long one travels.

const REBASE_AT = 13; // sinh(d/2)^2 at d = 4

class Scene {
  constructor(doc) {
    this.doc = doc;
    this.tree = doc.tree;
    const n = doc.tree.count + 1;
    const m = doc.texts ? doc.texts.count : 0;
    this.nodes = pointArrays(n);
    this.texts = pointArrays(m);
    this.cones = new Float64Array(4 * n);
    this.base = doc.tree.root;
    this.view = identity();
    this.zoom = 1;
    this.panX = 0; // pixels
    this.panY = 0;
    this.width = 1;
    this.height = 1;
    this.disk = 1; // radius in pixels at zoom 1
    this.out = new Float64Array(3);
    this.setLayout(0);
  }

  setLayout(index) {
    this.layoutIndex = index;
    this.layout = this.doc.layouts[index];
    this.tangents = this.layout.tangents;
    this.textTangents = this.layout.texts;
    this.room = roomOf(this.layout, this.tree);
    this.placeFromBase();
  }

  tangentOf(node) {
    return [this.tangents[2 * node], this.tangents[2 * node + 1]];
  }

  /** Everything relative to the base; after this, frames need no transcendental function. */
  placeFromBase() {
    const [bx, by] = this.tangentOf(this.base);
    placeAll(bx, by, this.tangents, this.nodes, this.out);
    this.hasTexts = Boolean(this.textTangents);
    if (this.hasTexts) placeAll(bx, by, this.textTangents, this.texts, this.out);
    this.conesPlaced = false;
  }

  placeCones() {
    if (this.conesPlaced || !this.layout.cones) return;
    const [bx, by] = this.tangentOf(this.base);
    const t = this.tangents;
    for (let i = 0; i < this.tree.count; i++) {
      coneEnds(bx, by, t[2 * i], t[2 * i + 1], this.layout.cones[i], this.cones, 4 * i);
    }
    this.conesPlaced = true;
  }

  /** Make `node` the base; what is on the screen stays where it is. */
  rebase(node) {
    if (node === this.base) return;
    this.view = compose(this.view, changeOfBase(this.tangentOf(this.base), this.tangentOf(node)));
    this.base = node;
    this.placeFromBase();
  }

  /** To be called when the view has moved: keeps the base near the centre. */
  settle() {
    const v = this.view;
    if (v[2] * v[2] + v[3] * v[3] < REBASE_AT) return;
    this.project();
    const scale = this.nodes.scale;
    let best = this.base;
    for (let i = 0; i <= this.tree.count; i++) if (scale[i] > scale[best]) best = i;
    this.rebase(best);
  }

  resize(width, height, margin) {
    this.width = width;
    this.height = height;
    this.disk = Math.max(60, Math.min(width, height) / 2 - margin);
  }

  get radius() {
    return this.disk * this.zoom;
  }

  get centreX() {
    return this.width / 2 + this.panX;
  }

  get centreY() {
    return this.height / 2 + this.panY;
  }

  toDisk(x, y) {
    return [(x - this.centreX) / this.radius, (this.centreY - y) / this.radius];
  }

  /** Disk and screen coordinates of all points for the present view. */
  project(withTexts = this.hasTexts) {
    projectAll(this.view, this.nodes, this.centreX, this.centreY, this.radius);
    if (withTexts && this.hasTexts) {
      projectAll(this.view, this.texts, this.centreX, this.centreY, this.radius);
    }
  }

  /** Screen-independent position of any point given by its tangent: [x, y] in the disk. */
  locate(tx, ty) {
    const [bx, by] = this.tangentOf(this.base);
    relative(bx, by, tx, ty, this.out);
    const r = diskRadius(this.out[2]);
    return applied(this.view, r * this.out[0], r * this.out[1]);
  }

  /** Zoom by a factor, the point under (x, y) standing still. */
  zoomAt(x, y, factor) {
    const zoom = Math.min(40, Math.max(0.4, this.zoom * factor));
    const k = zoom / this.zoom;
    this.panX = x - this.width / 2 - k * (x - this.centreX);
    this.panY = y - this.height / 2 - k * (y - this.centreY);
    this.zoom = zoom;
    this.keepInSight();
  }

  /** Not so far away that nothing of the disk is left on the screen; no pan where all is seen. */
  keepInSight() {
    const free = (size) => Math.max(0, this.radius - Math.min(this.disk, size / 2));
    this.panX = Math.min(free(this.width), Math.max(-free(this.width), this.panX));
    this.panY = Math.min(free(this.height), Math.max(-free(this.height), this.panY));
  }
}

function pointArrays(n) {
  return {
    count: n,
    zx: new Float64Array(n), // disk, relative to the base
    zy: new Float64Array(n),
    wx: new Float64Array(n), // disk, as seen
    wy: new Float64Array(n),
    scale: new Float32Array(n), // 1 - |w|^2: how large things are drawn there
    x: new Float64Array(n), // pixels
    y: new Float64Array(n),
  };
}

function placeAll(bx, by, tangents, points, out) {
  for (let i = 0; i < points.count; i++) {
    relative(bx, by, tangents[2 * i], tangents[2 * i + 1], out);
    const r = diskRadius(out[2]);
    points.zx[i] = r * out[0];
    points.zy[i] = r * out[1];
  }
}

function projectAll(view, points, centreX, centreY, radius) {
  const [ar, ai, br, bi] = view;
  const { zx, zy, wx, wy, scale, x, y, count } = points;
  for (let i = 0; i < count; i++) {
    const px = zx[i];
    const py = zy[i];
    const nr = ar * px - ai * py + br;
    const ni = ar * py + ai * px + bi;
    const dr = br * px + bi * py + ar;
    const di = br * py - bi * px - ai;
    const below = dr * dr + di * di;
    const u = (nr * dr + ni * di) / below;
    const v = (ni * dr - nr * di) / below;
    wx[i] = u;
    wy[i] = v;
    scale[i] = 1 - u * u - v * v;
    x[i] = centreX + radius * u;
    y[i] = centreY - radius * v;
  }
}
