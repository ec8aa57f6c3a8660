// Time: frames are drawn when something has changed, glides follow geodesics, layouts morph.

const GLIDE = 650; // milliseconds
const LONGEST_GLIDE = 24; // radii: what lies farther is reached by a jump to this distance first

class Motion {
  constructor(scene, draw) {
    this.scene = scene;
    this.draw = draw;
    this.running = null; // the animation, a function of its progress 0 .. 1
    this.waiting = false;
    this.frame = this.frame.bind(this);
    this.work = 0; // milliseconds of scripting in the last frame
    this.frames = 0;
    this.calm = window.matchMedia("(prefers-reduced-motion: reduce)");
  }

  /** Draw soon. */
  ask() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(this.frame);
  }

  frame(now) {
    this.waiting = false;
    if (this.running) {
      const run = this.running;
      if (run.start < 0) run.start = now;
      const share = run.length > 0 ? Math.min(1, (now - run.start) / run.length) : 1;
      run.step(eased(share));
      if (share < 1) {
        this.ask();
      } else if (this.running === run) {
        this.running = null;
        if (run.done) run.done();
      }
    }
    const before = performance.now();
    this.draw();
    this.work = performance.now() - before;
    this.frames++;
  }

  /** `more`: `cleanUp`, called if something else comes between; `zoom`, where a zoom leads. */
  animate(step, done, length = GLIDE, more = {}) {
    this.stop();
    this.running = { step, done, start: -1, length: this.calm.matches ? 0 : length, ...more };
    this.ask();
  }

  /** Leave off where it is; what must not stay half done is done. */
  stop() {
    const { running } = this;
    this.running = null;
    if (running && running.cleanUp) running.cleanUp();
  }

  /** Go to the end at once. */
  complete() {
    const { running } = this;
    this.running = null;
    if (!running) return;
    running.step(1);
    if (running.done) running.done();
  }

  /** Bring a node to the middle of the screen along the geodesic. */
  glideTo(node, done) {
    this.stop();
    this.scene.rebase(node);
    this.glideHome(false, 1, done);
  }

  /** Root to the centre, upright, nothing zoomed. */
  reset(done) {
    this.stop();
    this.scene.rebase(this.scene.tree.root);
    this.glideHome(true, 0, done);
  }

  /** From the present view to the base in the centre; upright: with no rotation left. */
  glideHome(upright, keepZoom, done) {
    const { scene } = this;
    const [ux, uy, far] = imageOfOrigin(scene.view);
    const start = Math.min(far, LONGEST_GLIDE);
    // Undo the translation: what is left of the view is a rotation.
    const rest = compose(translation(-far, ux, uy), scene.view);
    let turn = far > 30 ? 0 : 2 * Math.atan2(rest[1], rest[0]);
    turn -= 2 * Math.PI * Math.round(turn / (2 * Math.PI));
    const end = upright ? 0 : turn;
    const [panX, panY, zoom] = [scene.panX, scene.panY, scene.zoom];
    const step = (share) => {
      const left = 1 - share;
      const angle = end + (turn - end) * left;
      scene.view = compose(translation(start * left, ux, uy), rotation(angle));
      scene.panX = panX * left;
      scene.panY = panY * left;
      if (!keepZoom) scene.zoom = Math.exp(Math.log(zoom) * left);
    };
    this.animate(step, done, start > 0.01 || panX || panY || zoom !== 1 ? GLIDE : 1);
  }

  /** Let every point wander from where it is to its place in another layout. */
  morphTo(index, done) {
    const { scene } = this;
    this.stop();
    const target = scene.doc.layouts[index];
    const from = scene.tangents.slice();
    const fromTexts = scene.textTangents ? scene.textTangents.slice() : null;
    scene.setLayout(index);
    const onWay = new Float64Array(from.length);
    const texts = fromTexts && target.texts ? new Float64Array(fromTexts.length) : null;
    const step = (share) => {
      if (share >= 1) {
        scene.setLayout(index);
        return;
      }
      blend(from, target.tangents, share, onWay);
      scene.tangents = onWay;
      if (texts) {
        blend(fromTexts, target.texts, share, texts);
        scene.textTangents = texts;
      }
      scene.placeFromBase();
    };
    step(this.calm.matches ? 1 : 0);
    this.animate(step, done, 700, { cleanUp: () => scene.setLayout(index) });
  }
}

function eased(t) {
  return t < 0.5 ? 4 * t * t * t : 1 - (2 - 2 * t) ** 3 / 2;
}

function blend(a, b, share, out) {
  for (let i = 0; i < out.length; i++) out[i] = a[i] + share * (b[i] - a[i]);
}
