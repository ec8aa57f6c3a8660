// Marks that many nodes and texts share: shapes, and dots written pixel by pixel.

function markerPath(context, marker, x, y, r) {
  if (marker === "o") {
    context.moveTo(x + r, y);
    context.arc(x, y, r, 0, 2 * Math.PI);
    return;
  }
  const shape = SHAPES[marker];
  for (let k = 0; k < shape.length; k += 2) {
    if (k === 0) context.moveTo(x + r * shape[0], y + r * shape[1]);
    else context.lineTo(x + r * shape[k], y + r * shape[k + 1]);
  }
  context.closePath();
}

// Corners of the markers after the circle, in radii; y points down.
const SHAPES = {
  s: [-0.9, -0.9, 0.9, -0.9, 0.9, 0.9, -0.9, 0.9],
  "^": [0, -1.15, 1.05, 0.8, -1.05, 0.8],
  D: [0, -1.2, 1.2, 0, 0, 1.2, -1.2, 0],
  v: [0, 1.15, 1.05, -0.8, -1.05, -0.8],
  P: [
    -0.4, -1.1, 0.4, -1.1, 0.4, -0.4, 1.1, -0.4, 1.1, 0.4, 0.4, 0.4, 0.4, 1.1, -0.4, 1.1, -0.4, 0.4,
    -1.1, 0.4, -1.1, -0.4, -0.4, -0.4,
  ],
  X: [
    0, -0.55, 0.6, -1.1, 1.1, -0.6, 0.55, 0, 1.1, 0.6, 0.6, 1.1, 0, 0.55, -0.6, 1.1, -1.1, 0.6,
    -0.55, 0, -1.1, -0.6, -0.6, -1.1,
  ],
  p: [0, -1.1, 1.05, -0.34, 0.65, 0.9, -0.65, 0.9, -1.05, -0.34],
};

/** A transparent picture of the disk's part of the screen, written pixel by pixel. */
class PixelLayer {
  begin(scene, ratio) {
    const width = Math.max(1, Math.round(scene.width * ratio));
    const height = Math.max(1, Math.round(scene.height * ratio));
    if (!this.canvas) {
      this.canvas = document.createElement("canvas");
      this.context = this.canvas.getContext("2d", { willReadFrequently: true });
    }
    if (this.canvas.width !== width || this.canvas.height !== height || !this.image) {
      this.canvas.width = width;
      this.canvas.height = height;
      this.image = this.context.createImageData(width, height);
      this.words = new Uint32Array(this.image.data.buffer);
      this.width = width;
      this.height = height;
    } else if (this.used) {
      this.words.fill(0);
    }
    this.used = false;
  }

  /** A disc of radius r pixels, its rim smoothed. */
  dot(x, y, r, color) {
    const { words, width, height } = this;
    const reach = r + 0.5;
    const left = Math.max(0, Math.floor(x - reach));
    const right = Math.min(width - 1, Math.floor(x + reach));
    const low = Math.max(0, Math.floor(y - reach));
    const high = Math.min(height - 1, Math.floor(y + reach));
    const rgb = color & 0xffffff;
    for (let j = low; j <= high; j++) {
      const dy = j + 0.5 - y;
      for (let i = left; i <= right; i++) {
        const dx = i + 0.5 - x;
        const cover = reach - Math.sqrt(dx * dx + dy * dy);
        if (cover <= 0) continue;
        const alpha = cover >= 1 ? 255 : (255 * cover) | 0;
        const at = j * width + i;
        if (words[at] >>> 24 <= alpha) words[at] = ((alpha << 24) | rgb) >>> 0;
      }
    }
    this.used = true;
  }

  /** A square that adds to what is there: many of them together look dense. */
  haze(x, y, size, color) {
    const { words, width, height } = this;
    const left = Math.round(x - size / 2);
    const low = Math.round(y - size / 2);
    const n = Math.max(1, Math.round(size));
    if (left < 0 || low < 0 || left + n > width || low + n > height) return;
    const rgb = color & 0xffffff;
    for (let j = low; j < low + n; j++) {
      for (let at = j * width + left; at < j * width + left + n; at++) {
        const alpha = (words[at] >>> 24) + this.strength;
        words[at] = (((alpha > 235 ? 235 : alpha) << 24) | rgb) >>> 0;
      }
    }
    this.used = true;
  }

  end(context, scene) {
    if (!this.used) return;
    this.context.putImageData(this.image, 0, 0);
    context.drawImage(this.canvas, 0, 0, scene.width, scene.height);
  }
}
