// What is taken of the page: a grid of small cells. A name takes every cell that its box touches,
// at any angle; so names never overlap, and a frame costs the same however much is written.

const CELL = 4; // pixels
const NAME = 1;
const DOT = 2;
const EDGE = 4;
const MOST_EDGES = 1500; // with more of them on the screen, names mind the strong ones alone

class LabelGrid {
  constructor() {
    this.cells = new Uint8Array(0);
    this.columns = 0;
    this.rows = 0;
    this.circle = new Float64Array(3);
    this.keepClear = []; // [left, top, right, bottom] of what lies over the map
  }

  clear(scene) {
    this.columns = Math.ceil(scene.width / CELL) + 1;
    this.rows = Math.ceil(scene.height / CELL) + 1;
    const size = this.columns * this.rows;
    if (this.cells.length < size) this.cells = new Uint8Array(size);
    else this.cells.fill(0);
    for (const [left, top, right, bottom] of this.keepClear) {
      const last = Math.min(this.columns, Math.ceil(right / CELL));
      for (
        let row = Math.max(0, Math.floor(top / CELL));
        row * CELL < bottom && row < this.rows;
        row++
      ) {
        this.cells.fill(
          NAME,
          row * this.columns + Math.max(0, Math.floor(left / CELL)),
          row * this.columns + last,
        );
      }
    }
  }

  stampDot(x, y, r) {
    const { cells, columns, rows } = this;
    r = Math.max(0.5, r - 1.5); // whole cells are taken: its own name must find room beside it
    const left = Math.max(0, Math.floor((x - r) / CELL));
    const right = Math.min(columns - 1, Math.floor((x + r) / CELL));
    const low = Math.max(0, Math.floor((y - r) / CELL));
    const high = Math.min(rows - 1, Math.floor((y + r) / CELL));
    for (let j = low; j <= high; j++) {
      for (let i = left; i <= right; i++) cells[j * columns + i] |= DOT;
    }
  }

  /** Mark the cells under the edges: their arcs as parabolas through the same middle. */
  stampEdges(scene, visible) {
    const { tree } = visible;
    const { cells, columns, rows, circle } = this;
    const { x, y, wx, wy } = scene.nodes;
    const all = visible.count <= MOST_EDGES;
    for (let k = 0; k < visible.count; k++) {
      const i = visible.list[k];
      if (!all && tree.leaves[i] < 4) break; // the list goes from large families to leaves
      const p = visible.above[i];
      geodesicCircle(wx[p], wy[p], wx[i], wy[i], circle);
      let cx = (x[p] + x[i]) / 2;
      let cy = (y[p] + y[i]) / 2;
      if (circle[2] > 0) {
        const mx = (wx[p] + wx[i]) / 2 - circle[0];
        const my = (wy[p] + wy[i]) / 2 - circle[1];
        const m = circle[2] / Math.sqrt(mx * mx + my * my) - 1;
        cx += 2 * m * mx * scene.radius;
        cy -= 2 * m * my * scene.radius;
      }
      const steps = Math.min(
        200,
        Math.ceil((Math.abs(x[p] - x[i]) + Math.abs(y[p] - y[i])) / CELL),
      );
      for (let s = 1; s < steps; s++) {
        const t = s / steps;
        const a = (1 - t) * (1 - t);
        const b = 2 * t * (1 - t);
        const column = ((a * x[p] + b * cx + t * t * x[i]) / CELL) | 0;
        const row = ((a * y[p] + b * cy + t * t * y[i]) / CELL) | 0;
        if (column >= 0 && row >= 0 && column < columns && row < rows) {
          cells[row * columns + column] |= EDGE;
        }
      }
    }
  }

  fits(scene, x, y, width, up, down, angle, mask) {
    const cos = Math.cos(angle);
    const sin = Math.sin(angle);
    for (let k = 0; k < 4; k++) {
      const along = k % 2 ? width : 0;
      const across = k < 2 ? -up : down;
      const px = x + cos * along - sin * across;
      const py = y + sin * along + cos * across;
      if (px < 2 || py < 2 || px > scene.width - 2 || py > scene.height - 2) return -1;
    }
    return this.sweep(x, y, width, up, down, angle, mask);
  }

  /** With a mask: -1 if a cell under the box has it, else how many of them edges cross. Without:
   * take the cells. */
  sweep(x, y, width, up, down, angle, mask) {
    const { cells, columns, rows } = this;
    const cos = Math.cos(angle);
    const sin = Math.sin(angle);
    // A box takes one and a half pixels more than it asks for: that covers cells cut at a corner.
    const pad = mask ? 0.5 : 2;
    const wide = width + 2 * pad;
    const high = up + down + 2 * pad;
    const m = Math.ceil(wide / 2.8);
    const n = Math.ceil(high / 2.8);
    let crossed = 0;
    for (let a = 0; a <= m; a++) {
      const along = -pad + (wide * a) / m;
      for (let b = 0; b <= n; b++) {
        const across = -up - pad + (high * b) / n;
        const column = ((x + cos * along - sin * across) / CELL) | 0;
        const row = ((y + sin * along + cos * across) / CELL) | 0;
        if (column < 0 || row < 0 || column >= columns || row >= rows) continue;
        const cell = row * columns + column;
        if (mask === 0) cells[cell] |= NAME;
        else if (cells[cell] & mask) return -1;
        else if (cells[cell] & EDGE) crossed++;
      }
    }
    return crossed;
  }
}
