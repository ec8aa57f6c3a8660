// The hyperbolic plane (curvature -1). A point is given by its tangent vector at the origin, in
// Riemannian length, so that nothing is lost at the rim; or, once it is near, by its coordinate in
// the Poincare disk. An isometry is z -> (a z + b) / (conj(b) z + conj(a)), |a|^2 - |b|^2 = 1,
// stored as four numbers: a.re, a.im, b.re, b.im.

// Farther points are drawn at this radius: exp(2 * 350) is still a number.
const MAX_RADIUS = 350;
// Beyond this radius two float64 directions differ by whole units of length. There, directions
// that differ by rounding alone count as one; a chain of 200 labels stays a straight line.
const BLUR_RADIUS = 36;
const BLUR = 4e-16;
const SPLITTER = 134217729; // 2^27 + 1

/** What a * b lost to rounding when it became p (Dekker's split). */
function productError(a, b, p) {
  let t = SPLITTER * a;
  const ah = t - (t - a);
  const al = a - ah;
  t = SPLITTER * b;
  const bh = t - (t - b);
  const bl = b - bh;
  return ah * bh - p + ah * bl + al * bh + al * bl;
}

/** ax by - ay bx without cancellation: siblings at radius 35 differ in their 16th digit. */
function crossExact(ax, ay, bx, by) {
  const p = ax * by;
  const q = ay * bx;
  return p - q + (productError(ax, by, p) - productError(ay, bx, q));
}

/**
 * The point with tangent (px, py) as seen from the one with tangent (bx, by), whose frame is
 * carried there from the origin along the radius: out = [unit direction x, y, sinh(distance/2)^2].
 *
 * Half-angle forms of the hyperbolic triangle's laws; no 1 - |z|^2 anywhere.
 */
function relative(bx, by, px, py, out) {
  const b = Math.sqrt(bx * bx + by * by);
  const p = Math.sqrt(px * px + py * py);
  const R = Math.min(b, MAX_RADIUS);
  const r = Math.min(p, MAX_RADIUS);
  const ux = b > 0 ? bx / b : 1;
  const uy = b > 0 ? by / b : 0;
  let sin = 0;
  let cos = 1;
  if (p > 0 && b > 0) {
    sin = crossExact(bx, by, px, py) / (b * p);
    cos = (bx * px + by * py) / (b * p);
    if (R > BLUR_RADIUS && r > BLUR_RADIUS && cos > 0 && Math.abs(sin) < BLUR) sin = 0;
  } else if (p > 0) {
    sin = py / p;
    cos = px / p;
  }
  const half = cos > 0 ? (sin * sin) / (2 * (1 + cos)) : (1 - cos) / 2; // sin(angle/2)^2
  const shrunk = -Math.expm1(-2 * r) / 2; // sinh(r) exp(-r): both sides are scaled by exp(-r)
  const across = shrunk * sin;
  const outward = Math.sinh(r - R) * Math.exp(-r) - 2 * shrunk * Math.cosh(R) * half;
  const length = Math.sqrt(across * across + outward * outward);
  if (length > 0) {
    out[0] = (ux * outward - uy * across) / length;
    out[1] = (uy * outward + ux * across) / length;
  } else {
    out[0] = ux;
    out[1] = uy;
  }
  const apart = Math.sinh((r - R) / 2);
  out[2] = apart * apart + Math.sinh(r) * Math.sinh(R) * half;
  return out;
}

/** Distance to the origin in the disk, tanh(d/2), from sinh(d/2)^2. */
function diskRadius(square) {
  return square < 1e300 ? Math.sqrt(square / (1 + square)) : 1;
}

function geodesicDistance(ax, ay, bx, by) {
  return 2 * Math.asinh(Math.sqrt(relative(ax, ay, bx, by, new Float64Array(3))[2]));
}

function identity() {
  return new Float64Array([1, 0, 0, 0]);
}

/** The translation of length d that moves the origin in the direction (ux, uy). */
function translation(d, ux, uy) {
  const s = Math.sinh(d / 2);
  return new Float64Array([Math.cosh(d / 2), 0, s * ux, s * uy]);
}

function rotation(angle) {
  return new Float64Array([Math.cos(angle / 2), Math.sin(angle / 2), 0, 0]);
}

/** First f, then g. */
function compose(g, f) {
  const [gr, gi, hr, hi] = g;
  const [fr, fi, er, ei] = f;
  const m = new Float64Array([
    gr * fr - gi * fi + (hr * er + hi * ei),
    gr * fi + gi * fr + (hi * er - hr * ei),
    gr * er - gi * ei + (hr * fr + hi * fi),
    gr * ei + gi * er + (hi * fr - hr * fi),
  ]);
  const size = m[0] * m[0] + m[1] * m[1];
  // Far from its base the difference is noise: leave it.
  if (size < 1e8) {
    const n = Math.sqrt(size - m[2] * m[2] - m[3] * m[3]);
    for (let i = 0; i < 4; i++) m[i] /= n;
  }
  return m;
}

/** Image of (x, y) under the isometry m, as [x, y]. */
function applied(m, x, y) {
  const nr = m[0] * x - m[1] * y + m[2];
  const ni = m[0] * y + m[1] * x + m[3];
  const dr = m[2] * x + m[3] * y + m[0];
  const di = m[2] * y - m[3] * x - m[1];
  const d = dr * dr + di * di;
  return [(nr * dr + ni * di) / d, (ni * dr - nr * di) / d];
}

/** Where m takes the origin, as [unit direction x, y, distance]. */
function imageOfOrigin(m) {
  const far = Math.sqrt(m[2] * m[2] + m[3] * m[3]);
  if (far === 0) return [1, 0, 0];
  // b / conj(a) has the direction of b * a.
  const x = m[2] * m[0] - m[3] * m[1];
  const y = m[2] * m[1] + m[3] * m[0];
  const n = Math.sqrt(x * x + y * y);
  return [x / n, y / n, 2 * Math.asinh(far)];
}

/** The translation that takes w to v, both [x, y] inside the disk: a drag from w to v. */
function dragTranslation(w, v) {
  const kx = w[0] * v[0] - w[1] * v[1];
  const ky = w[0] * v[1] + w[1] * v[0];
  const dx = v[0] - w[0];
  const dy = v[1] - w[1];
  const below = 1 - kx * kx - ky * ky;
  const ax = (dx + kx * dx + ky * dy) / below;
  const ay = (dy + ky * dx - kx * dy) / below;
  const n = 1 / Math.sqrt(1 - ax * ax - ay * ay);
  return new Float64Array([n, 0, ax * n, ay * n]);
}

/**
 * How the frame at base b1 turns into the frame at base b2 (tangents [x, y]): the isometry that
 * takes coordinates relative to b2 to coordinates relative to b1.
 */
function changeOfBase(b1, b2) {
  const there = relative(b1[0], b1[1], b2[0], b2[1], new Float64Array(3));
  if (there[2] === 0) return identity();
  const back = relative(b2[0], b2[1], b1[0], b1[1], new Float64Array(3));
  // Seen from b2 after a plain translation, b1 lies opposite to where b2 lay: compare with `back`.
  const cos = -(there[0] * back[0] + there[1] * back[1]);
  const sin = -(there[1] * back[0] - there[0] * back[1]);
  const far = 2 * Math.asinh(Math.sqrt(there[2]));
  return compose(translation(far, there[0], there[1]), rotation(Math.atan2(sin, cos)));
}

/**
 * The ends on the boundary of the cone with apex p (tangent), half-aperture psi, opening away from
 * the origin, as seen from the base b: out[at .. at + 3] = [x1, y1, x2, y2], clockwise end first.
 */
function coneEnds(bx, by, px, py, psi, out, at) {
  const there = relative(bx, by, px, py, coneEnds.there);
  const back = relative(px, py, bx, by, coneEnds.back);
  const length = Math.sqrt(px * px + py * py);
  const ux = length > 0 ? px / length : 1;
  const uy = length > 0 ? py / length : 0;
  const same = there[2] === 0;
  const far = 2 * Math.asinh(Math.sqrt(there[2]));
  const e = Math.exp(-far);
  for (let k = 0; k < 2; k++) {
    const turn = k === 0 ? -psi : psi;
    const rx = ux * Math.cos(turn) - uy * Math.sin(turn);
    const ry = uy * Math.cos(turn) + ux * Math.sin(turn);
    if (same) {
      out[at + 2 * k] = rx;
      out[at + 2 * k + 1] = ry;
      continue;
    }
    // The ray's angle at p against the direction that leads away from b.
    const cos = -(rx * back[0] + ry * back[1]);
    const sin = -(ry * back[0] - rx * back[1]);
    const half = cos < 0 ? (sin * sin) / (2 * (1 - cos)) : (1 + cos) / 2; // cos(angle/2)^2
    const x = -e * e + (1 + e * e) * half;
    const y = e * sin;
    const n = Math.sqrt(x * x + y * y);
    out[at + 2 * k] = (there[0] * x - there[1] * y) / n;
    out[at + 2 * k + 1] = (there[1] * x + there[0] * y) / n;
  }
}
coneEnds.there = new Float64Array(3);
coneEnds.back = new Float64Array(3);

/**
 * Circle that carries the geodesic between two points of the disk: out = [x, y, radius], radius 0
 * where the geodesic is straight (or so nearly that no circle can be told).
 */
function geodesicCircle(px, py, qx, qy, out) {
  const cross = px * qy - py * qx;
  const p = px * px + py * py + 1;
  const q = qx * qx + qy * qy + 1;
  const x = (p * qy - q * py) / (2 * cross);
  const y = (q * px - p * qx) / (2 * cross);
  const square = x * x + y * y - 1;
  out[0] = x;
  out[1] = y;
  out[2] = square > 0 && square < 1e12 ? Math.sqrt(square) : 0;
  return out;
}
