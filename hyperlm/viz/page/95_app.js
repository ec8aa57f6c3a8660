// The page as a whole: its state and what may be done to it.

const DENSITY = 0.5;

class App {
  constructor(doc) {
    this.doc = doc;
    this.canvas = document.getElementById("map");
    this.context = this.canvas.getContext("2d", { alpha: false });
    this.live = document.getElementById("live");
    this.ratio = 1;
    this.state = {
      node: -1,
      text: -1,
      hoverNode: -1,
      hoverText: -1,
      focused: false,
      answer: null,
      found: null, // texts that hold what was searched
      texts: false,
      cones: false,
      errors: false,
      density: DENSITY,
    };
    this.prefers = window.matchMedia("(prefers-color-scheme: dark)");
    this.theme = THEMES[this.prefers.matches ? "dark" : "light"];
    this.themeChosen = false;
    this.scene = new Scene(doc);
    this.visible = new Visible(doc.tree);
    this.labels = new Labels(doc.tree, doc.title);
    this.painter = new Painter(this.scene, this.visible, this.labels);
    this.motion = new Motion(this.scene, () => this.draw());
    this.card = new FloatingCard(this);
    this.panel = new Panel(this);
    this.controls = new Controls(this);
    this.search = new Search(this);
    this.predict = new Predict(this);
    this.pointer = new Pointer(this);
    this.keyboard = new Keyboard(this);
    this.linkTimer = 0;
    this.ownHash = "";
    this.prefers.addEventListener("change", () => {
      if (!this.themeChosen) this.setTheme(this.prefers.matches ? "dark" : "light", false);
    });
    window.addEventListener("hashchange", () => this.follow());
    new ResizeObserver(() => this.fit()).observe(this.canvas.parentElement);
    window.addEventListener("resize", () => this.fit());
    window.addEventListener("beforeprint", () => this.print(true));
    window.addEventListener("afterprint", () => this.print(false));
    this.fit();
    this.setTheme(this.theme.name, false);
    this.describe();
    this.follow();
    this.changed(false);
    this.draw();
    performance.mark("first-picture");
  }

  describe() {
    const { tree } = this.scene;
    const { texts } = this.doc;
    const parts = [plural(tree.count, "label", "labels"), plural(tree.levels, "level", "levels")];
    if (texts) parts.push(plural(texts.count, "text", "texts"));
    document.getElementById("counts").textContent = parts.join(" \u00b7 ");
    document.getElementById("heading").textContent = this.doc.title;
    document.getElementById("generator").textContent = this.doc.generator;
    const notes = document.getElementById("notes");
    notes.replaceChildren(...this.doc.notes.map((note) => make("p", {}, note)));
    this.canvas.setAttribute(
      "aria-label",
      `${shortened(this.doc.title, 80)}: ${parts.join(", ")}, drawn in the Poincar\u00e9 disk`,
    );
  }

  fit() {
    const box = this.canvas.parentElement.getBoundingClientRect();
    const width = Math.max(80, Math.floor(box.width));
    const height = Math.max(80, Math.floor(box.height));
    const ratio = Math.min(3, window.devicePixelRatio || 1);
    const { scene } = this;
    if (scene.width === width && scene.height === height && this.ratio === ratio) return;
    this.ratio = ratio;
    const pan = [scene.panX / scene.disk, scene.panY / scene.disk];
    // Room for the names that stand around the disk.
    scene.resize(width, height, Math.min(54, Math.max(10, 0.055 * Math.min(width, height))));
    scene.panX = pan[0] * scene.disk;
    scene.panY = pan[1] * scene.disk;
    this.canvas.width = Math.round(width * ratio);
    this.canvas.height = Math.round(height * ratio);
    this.canvas.style.width = `${width}px`;
    this.canvas.style.height = `${height}px`;
    const lens = document.querySelector(".lens").getBoundingClientRect();
    this.labels.grid.keepClear = [
      [
        lens.left - box.left - 4,
        lens.top - box.top - 4,
        lens.right - box.left,
        lens.bottom - box.top,
      ],
    ];
    this.draw(); // at once: an emptied canvas must not be seen
  }

  draw() {
    this.painter.paint(this.context, this.ratio, this.theme, this.state);
  }

  /** Something other than the view has changed. */
  changed(link = true) {
    this.controls.sync();
    this.motion.ask();
    if (link) this.settled();
  }

  /** The view is moving. */
  moved() {
    this.motion.ask();
  }

  /** The view has come to rest: write it into the address, not more often than browsers like. */
  settled() {
    clearTimeout(this.linkTimer);
    this.linkTimer = setTimeout(() => this.writeLink(), 250);
  }

  writeLink() {
    clearTimeout(this.linkTimer);
    this.ownHash = writeLink(this);
    try {
      history.replaceState(null, "", this.ownHash);
    } catch {} // a page opened from an odd place has an address that cannot be changed
  }

  follow() {
    if (location.hash === this.ownHash || location.hash.length < 2) {
      this.panel.show();
      return;
    }
    const link = readLink(this, location.hash);
    if (link) followLink(this, link);
    this.panel.show();
    this.changed(false);
  }

  say(words) {
    this.live.textContent = words;
  }

  /** Choose a node, -1 for none; bring it to the centre, or just where it can be seen. */
  choose(node, how = {}) {
    const { state, scene } = this;
    this.hideCard();
    state.node = node;
    state.text = -1;
    state.found = null;
    this.panel.show();
    if (node < 0) {
      this.say("Nothing chosen.");
      this.changed();
      return;
    }
    this.say(nodeSentence(this, node));
    scene.project(false);
    const { x, y, scale } = scene.nodes;
    const lost = scale[node] < 0.35 || !onScreen(scene, x[node], y[node]);
    if (how.centre || (how.reveal && lost)) this.motion.glideTo(node, () => this.settled());
    this.changed();
  }

  chooseText(text) {
    const { state, scene, doc } = this;
    this.hideCard();
    state.text = text;
    state.node = -1;
    if (state.found) state.found.left = text;
    if (scene.hasTexts && !state.texts && !state.errors && !state.found) state.texts = true;
    this.panel.show();
    const { predicted, gold } = doc.texts;
    const end = predicted[text];
    this.say(shortened(`Text: ${doc.texts.text[text]}. Prediction: ${pathWords(this, end)}`, 400));
    if (scene.hasTexts) {
      scene.project(true);
      const { x, y, scale } = scene.texts;
      const seen = () => scale[text] >= 0.35 && onScreen(scene, x[text], y[text]);
      const beside = end >= 0 ? end : gold[text];
      if (!seen() && beside >= 0) {
        this.motion.glideTo(beside, () => {
          scene.project(true);
          if (seen() || scene.zoom <= 1) this.settled();
          else this.zoomTo(1);
        });
      }
    }
    this.changed();
  }

  /** List the texts that hold some words, and mark where they lie. */
  showFound(found) {
    this.hideCard();
    Object.assign(this.state, { found, node: -1, text: -1 });
    this.panel.show();
    const { card } = this.panel;
    const left = card.querySelector(`[data-text="${found.left}"]`); // the one it was left by
    (left || card.querySelector(".text")).focus();
    this.say(`${plural(found.texts.length, "text", "texts")} with ${shortened(found.said, 80)}`);
    this.changed();
  }

  setAnswer(answer) {
    Object.assign(this.state, { answer, found: null, node: -1, text: -1 });
    answer.place = answer.positions[this.scene.layout.name] || null;
    const end = answer.nodes.at(-1);
    this.panel.show();
    this.say(end === undefined ? "No path." : `Its path: ${pathWords(this, end)}`);
    // Its parent in the centre: the alternatives then stand around.
    const { tree } = this.scene;
    if (end !== undefined) {
      const middle = tree.children[end] ? end : tree.parent[end];
      this.motion.glideTo(middle, () => this.settled());
    }
    this.changed(false);
  }

  clearAnswer() {
    this.state.answer = null;
    this.predict.clear();
  }

  hover(node, text) {
    const { state } = this;
    if (node === state.hoverNode && text === state.hoverText) return;
    state.hoverNode = node;
    state.hoverText = text;
    this.canvas.classList.toggle("hit", node >= 0 || text >= 0);
    if (node < 0 && text < 0) this.card.hideSoon();
    this.motion.ask();
  }

  hoverAt(x, y) {
    const found = this.thingAt(x, y, 6);
    this.hover(found.node, found.text);
    if (found.text >= 0) {
      const { texts } = this.scene;
      this.card.show(`t${found.text}`, texts.x[found.text], texts.y[found.text], () =>
        textCard(this, found.text, true),
      );
    } else if (found.node >= 0) {
      const { nodes } = this.scene;
      this.card.show(`n${found.node}`, nodes.x[found.node], nodes.y[found.node], () =>
        nodeCard(this, found.node, true),
      );
    }
  }

  hideCard() {
    this.card.hide();
    this.state.hoverNode = -1;
    this.state.hoverText = -1;
  }

  /** The node or text at a place on the screen; nodes lie in front. */
  thingAt(x, y, reach) {
    const { state, scene } = this;
    if (state.found) {
      // Their marks are drawn over the labels.
      const marked = textAt(scene, x, y, FOUND_REACH, { found: state.found });
      if (marked >= 0) return { node: -1, text: marked };
    }
    const texts = state.texts || state.errors || state.found;
    const node = this.visible.nodeAt(scene, x, y, texts ? 2.5 : reach);
    if (node >= 0 || !texts) return { node, text: -1 };
    const text = textAt(scene, x, y, reach, state);
    return text >= 0
      ? { node: -1, text }
      : { node: this.visible.nodeAt(scene, x, y, reach), text: -1 };
  }

  focusMap(focused) {
    // A press with the mouse also focuses; a ring of its own is for the keyboard.
    this.state.focused = focused && this.canvas.matches(":focus-visible");
    if (this.state.focused)
      this.say(this.state.node >= 0 ? nodeSentence(this, this.state.node) : "");
    this.motion.ask();
  }

  /** Closer by a factor, from where a zoom under way is leading. */
  zoom(factor) {
    const { running } = this.motion;
    this.zoomTo((running && running.zoom ? running.zoom : this.scene.zoom) * factor);
  }

  zoomTo(to) {
    const { scene, motion } = this;
    if (motion.running && !motion.running.zoom) motion.complete();
    const from = scene.zoom;
    motion.animate(
      (share) => {
        const wanted = from * (to / from) ** share;
        scene.zoomAt(scene.width / 2, scene.height / 2, wanted / scene.zoom);
      },
      () => this.settled(),
      180,
      { zoom: to },
    );
  }

  reset() {
    this.hideCard();
    this.clearAnswer();
    this.choose(-1);
    this.say("The whole tree.");
    this.motion.reset(() => this.settled());
  }

  setLayout(index) {
    this.hideCard();
    this.motion.morphTo(index, () => this.settled());
    const { answer } = this.state;
    if (answer) answer.place = answer.positions[this.scene.layout.name] || null;
    this.say(`${this.scene.layout.label}. ${this.scene.layout.note}`);
    this.changed();
  }

  setTheme(name, chosen = true) {
    this.theme = THEMES[name];
    this.themeChosen = this.themeChosen || chosen;
    const root = document.documentElement;
    root.dataset.theme = name;
    this.theme.classes.forEach((color, k) => root.style.setProperty(`--class-${k}`, color));
    this.controls.sync();
    this.motion.ask();
  }

  help() {
    document.getElementById("help").showModal();
  }

  saveSvg() {
    download(new Blob([exportSvg(this)], { type: "image/svg+xml" }), fileName(this, "svg"));
    this.say("Saved as SVG.");
  }

  savePng() {
    const canvas = exportCanvas(this, Math.max(2, this.ratio));
    canvas.toBlob((blob) => {
      if (blob) download(blob, fileName(this, "png"));
      this.say(blob ? "Saved as PNG." : "The browser could not make the picture.");
    });
    this.draw();
  }

  async copyLink() {
    this.writeLink();
    try {
      await navigator.clipboard.writeText(location.href);
      this.say("Link copied.");
      this.toast("Link copied");
    } catch {
      this.toast("The address bar holds the link to this view");
    }
  }

  /** Draw as on paper, or as on the screen again. */
  print(paper) {
    const shown = this.theme.name;
    this.setTheme(paper ? "light" : this.onScreen || shown, false);
    this.onScreen = paper ? this.onScreen || shown : null;
    this.draw();
  }

  toast(words) {
    const box = document.getElementById("toast");
    box.textContent = words;
    box.hidden = false;
    clearTimeout(this.toastTimer);
    this.toastTimer = setTimeout(() => (box.hidden = true), 2600);
  }
}
