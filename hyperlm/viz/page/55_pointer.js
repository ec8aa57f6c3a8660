// Mouse, pen and touch. Dragging inside the disk moves the plane so that the grabbed point stays
// under the pointer; outside it, it turns the disk. Two fingers zoom and move the picture.

const TAP = 5; // pixels a press may wander and still be a click
const DOUBLE = 500; // milliseconds between the halves of a double click
const GRIP = 4; // pixels: a pointer nearer to the rim grabs what lies this far from it

class Pointer {
  constructor(app) {
    this.app = app;
    this.scene = app.scene;
    this.active = new Map(); // pointer id -> [x, y]
    this.drag = null;
    this.last = null; // the label clicked last, where and when
    const canvas = app.canvas;
    canvas.addEventListener("pointerdown", (event) => this.down(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    canvas.addEventListener("pointerup", (event) => this.up(event, true));
    canvas.addEventListener("pointercancel", (event) => this.up(event, false));
    canvas.addEventListener("pointerleave", () => this.app.hover(-1, -1));
    canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    canvas.addEventListener("dblclick", (event) => {
      event.preventDefault();
      if (this.emptyClick) this.app.reset();
    });
  }

  at(event) {
    const box = this.app.canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  down(event) {
    if (event.button > 0) return;
    const at = this.at(event);
    // A synthetic pointer cannot be captured, and need not be.
    try {
      this.app.canvas.setPointerCapture(event.pointerId);
    } catch {}
    this.active.set(event.pointerId, at);
    this.app.motion.stop();
    this.app.hideCard();
    this.begin(at, event.pointerType);
  }

  begin(at, kind) {
    const w = this.scene.toDisk(at[0], at[1]);
    const inside = Math.hypot(w[0], w[1]) < 1;
    const first = this.drag === null;
    this.drag = {
      from: held(w, this.scene.radius),
      at,
      kind,
      inside,
      angle: Math.atan2(w[1], w[0]),
      view: this.scene.view.slice(),
      base: this.scene.base,
      moved: !first || this.active.size > 1,
      gap: this.gap(),
      middle: this.middle(),
    };
  }

  middle() {
    let x = 0;
    let y = 0;
    for (const p of this.active.values()) {
      x += p[0] / this.active.size;
      y += p[1] / this.active.size;
    }
    return [x, y];
  }

  gap() {
    if (this.active.size < 2) return 0;
    const [a, b] = this.active.values();
    return Math.hypot(a[0] - b[0], a[1] - b[1]);
  }

  move(event) {
    const at = this.at(event);
    if (!this.active.has(event.pointerId) || !this.drag) {
      if (event.pointerType !== "touch") this.app.hoverAt(at[0], at[1]);
      return;
    }
    this.active.set(event.pointerId, at);
    if (this.active.size >= 2) {
      this.pinch();
    } else {
      const { drag } = this;
      if (!drag.moved && Math.hypot(at[0] - drag.at[0], at[1] - drag.at[1]) < TAP) return;
      drag.moved = true;
      this.dragTo(at);
    }
    this.app.moved();
  }

  dragTo(at) {
    const { scene, drag } = this;
    const w = scene.toDisk(at[0], at[1]);
    // Always from where the drag began: the plane does not depend on the pointer's detours.
    let step;
    if (drag.inside) step = dragTranslation(drag.from, held(w, scene.radius));
    else step = rotation(Math.atan2(w[1], w[0]) - drag.angle);
    if (scene.base !== drag.base) {
      // The base has changed on the way: what it was at the start is seen from the new one.
      drag.view = compose(
        drag.view,
        changeOfBase(scene.tangentOf(drag.base), scene.tangentOf(scene.base)),
      );
      drag.base = scene.base;
    }
    scene.view = compose(step, drag.view);
    scene.settle();
  }

  pinch() {
    const gap = this.gap();
    const middle = this.middle();
    const { scene, drag } = this;
    scene.panX += middle[0] - drag.middle[0];
    scene.panY += middle[1] - drag.middle[1];
    if (drag.gap > 0) scene.zoomAt(middle[0], middle[1], gap / drag.gap);
    drag.gap = gap;
    drag.middle = middle;
  }

  up(event, clicked) {
    if (!this.active.delete(event.pointerId)) return;
    const { drag } = this;
    if (this.active.size) {
      const [rest] = this.active.values();
      this.begin(rest, event.pointerType);
      return;
    }
    this.drag = null;
    if (!clicked || !drag || drag.moved) {
      this.app.settled();
      return;
    }
    const at = this.at(event);
    const found = this.app.thingAt(at[0], at[1], event.pointerType === "touch" ? 18 : 7);
    const { last } = this;
    this.last = null;
    const again = last && event.timeStamp - last.time < DOUBLE;
    if (again && Math.hypot(at[0] - last.at[0], at[1] - last.at[1]) < 2 * TAP) {
      // The label glides away under a double click: its second half means what the first did.
      this.emptyClick = false;
      this.app.choose(last.node, { centre: true });
      return;
    }
    this.emptyClick = found.node < 0 && found.text < 0;
    if (found.node >= 0) this.last = { node: found.node, at, time: event.timeStamp };
    if (found.text >= 0) this.app.chooseText(found.text);
    else if (found.node >= 0) this.app.choose(found.node, { centre: true });
    else this.app.choose(-1);
  }

  wheel(event) {
    event.preventDefault();
    const unit = event.deltaMode === 1 ? 16 : event.deltaMode === 2 ? 400 : 1;
    const at = this.at(event);
    const change = Math.max(-240, Math.min(240, event.deltaY * unit));
    this.app.motion.stop();
    this.scene.zoomAt(at[0], at[1], Math.exp(-change * (event.ctrlKey ? 0.01 : 0.0016)));
    this.app.moved();
    this.app.settled();
  }
}

/** Inside the disk, not nearer to the rim than what can be dragged. */
function held(w, radius) {
  const r = Math.hypot(w[0], w[1]);
  const most = 1 - Math.min(0.02, GRIP / radius);
  return r > most ? [(w[0] * most) / r, (w[1] * most) / r] : w;
}
