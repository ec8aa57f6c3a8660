// Switches: layout, layers, levels, names, theme; the map's own buttons.

class Controls {
  constructor(app) {
    this.app = app;
    const { doc, state } = app;
    this.layout = document.getElementById("layout");
    this.layout.replaceChildren(
      ...doc.layouts.map((layout, k) => make("option", { value: String(k) }, layout.label)),
    );
    this.layout.disabled = doc.layouts.length < 2;
    this.layout.addEventListener("change", () => app.setLayout(Number(this.layout.value)));
    this.boxes = {};
    for (const name of ["texts", "cones", "errors"]) {
      const box = document.getElementById(`show-${name}`);
      this.boxes[name] = box;
      box.addEventListener("change", () => {
        state[name] = box.checked;
        app.changed();
      });
    }
    this.density = document.getElementById("density");
    this.density.addEventListener("input", () => {
      state.density = Number(this.density.value) / 100;
      app.changed();
    });
    this.makeLevels();
    const press = (id, act) => document.getElementById(id).addEventListener("click", act);
    press("home", () => app.reset());
    press("closer", () => app.zoom(1.4));
    press("farther", () => app.zoom(1 / 1.4));
    press("theme", () => {
      app.setTheme(app.theme.name === "dark" ? "light" : "dark");
      app.settled();
    });
    press("open-help", () => app.help());
    press("save-svg", () => this.run(() => app.saveSvg()));
    press("save-png", () => this.run(() => app.savePng()));
    press("copy-link", () => this.run(() => app.copyLink()));
    this.menu = document.getElementById("export");
    document.addEventListener("pointerdown", (event) => {
      if (!this.menu.contains(event.target)) this.menu.open = false;
    });
    this.menu.addEventListener("focusout", (event) => {
      if (event.relatedTarget && !this.menu.contains(event.relatedTarget)) this.menu.open = false;
    });
    this.menu.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      event.stopPropagation();
      this.menu.open = false;
      this.menu.querySelector("summary").focus();
    });
  }

  run(act) {
    this.menu.open = false;
    act();
  }

  makeLevels() {
    const { app } = this;
    const { tree } = app.scene;
    const counts = new Array(tree.levels + 1).fill(0);
    for (let i = 0; i < tree.count; i++) counts[tree.depth[i]]++;
    const box = document.getElementById("levels");
    // 200 switches help nobody: the deep ones of a long chain share the last.
    this.lastOwn = Math.min(tree.levels, 12);
    this.levels = [];
    for (let depth = 1; depth <= this.lastOwn; depth++) {
      const last = depth === this.lastOwn && tree.levels > depth;
      const name = cleaned(app.doc.levelNames[depth - 1] || "") || `Level ${depth}`;
      const input = make("input", { type: "checkbox", checked: true });
      const count = last ? counts.slice(depth).reduce((a, b) => a + b, 0) : counts[depth];
      input.addEventListener("change", () => {
        for (let d = depth; d <= (last ? tree.levels : depth); d++) {
          app.visible.setHidden(d, !input.checked);
        }
        app.changed();
      });
      this.levels.push(input);
      box.append(
        make(
          "label",
          { class: "chip" },
          input,
          make("bdi", {}, last ? `${shortened(name, 24)} and deeper` : shortened(name, 24)),
          " ",
          make("span", { class: "extra" }, grouped(count)),
        ),
      );
    }
    box.closest("fieldset").hidden = tree.levels < 2;
  }

  /** Make the switches say what is so. */
  sync() {
    const { app } = this;
    const { scene, state, doc } = app;
    const { layout } = scene;
    this.layout.value = String(scene.layoutIndex);
    this.density.value = String(Math.round(100 * state.density));
    const can = {
      texts: Boolean(doc.texts && layout.texts),
      errors: Boolean(doc.texts && layout.texts && doc.texts.mistakes),
      cones: Boolean(layout.cones),
    };
    for (const [name, box] of Object.entries(this.boxes)) {
      box.checked = state[name] && can[name];
      box.disabled = !can[name];
      box.closest("label").classList.toggle("off", !can[name]);
    }
    this.levels.forEach((input, k) => (input.checked = !app.visible.hidden[k + 1]));
    document.getElementById("note").textContent = layout.note;
    const figures = document.getElementById("quality");
    figures.replaceChildren(...qualityFacts(layout.quality));
    document
      .getElementById("theme")
      .setAttribute("aria-pressed", String(app.theme.name === "dark"));
  }
}

function qualityFacts(quality) {
  if (!quality) return [];
  const facts = [];
  const add = (name, value, form, hint) => {
    if (typeof value !== "number" || !Number.isFinite(value)) return;
    const entry = fact(name, form(value));
    entry.title = hint;
    facts.push(entry);
  };
  const plain = (v) => v.toFixed(2);
  add(
    "Distortion",
    quality.distortion,
    plain,
    "Mean relative error of distances at the best scale; 0 is best",
  );
  add("Neighbours kept", quality.neighbourhood, percent, "Of the ten nearest; 100 % is best");
  add("Rank correlation", quality.rank, plain, "Of distances; 1 is best");
  if (facts.length && typeof quality.of === "string") {
    facts.push(make("p", { class: "hint" }, `Compared with the ${cleaned(quality.of)}.`));
  }
  return facts;
}
