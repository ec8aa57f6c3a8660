// The search box: a combobox with a list of labels, best matches first, and of texts.

const MOST_FOUND = 12;
const FEW_FOUND = 6; // texts among them
const UNTOLD = /^[\p{Ll}\p{Lm}\p{N}]?$/u; // one letter is in all texts; one of Chinese tells
const LONGEST_NAME = 600; // characters that are compared

class Search {
  constructor(app) {
    this.app = app;
    this.input = document.getElementById("search");
    this.list = document.getElementById("found");
    this.found = [];
    this.active = -1;
    this.folded = null;
    this.foldedTexts = null;
    if (app.doc.texts) this.input.placeholder = "Search labels and texts";
    this.input.addEventListener("input", () => this.update());
    this.input.addEventListener("focus", () => this.input.value && this.update());
    this.input.addEventListener("blur", () => this.close());
    this.input.addEventListener("keydown", (event) => this.key(event));
    // Before the blur that the press would cause.
    this.list.addEventListener("pointerdown", (event) => event.preventDefault());
  }

  /** Node numbers that match, best first: begins with it, a word does, holds it, its path does. */
  matches(query) {
    const { tree } = this.app.scene;
    if (!this.folded) {
      this.folded = tree.names.map((name) => folded(cleaned(name.slice(0, LONGEST_NAME))));
    }
    const whole = folded(cleaned(query));
    if (!whole) return [];
    const words = whole.split(/[\s/>\u203a]+/).filter(Boolean); // of a path
    const ranked = [];
    for (let i = 0; i < tree.count; i++) {
      const name = this.folded[i];
      let rank = -1;
      const at = name.indexOf(whole);
      if (name === whole) rank = 0;
      else if (at === 0) rank = 1;
      else if (at > 0) rank = /[\p{L}\p{N}]/u.test(name[at - 1]) ? 3 : 2;
      else if (
        words.length > 1 &&
        words.every((w) => this.onPath(i, w)) &&
        name.includes(words.at(-1))
      ) {
        rank = 4;
      }
      if (rank >= 0) ranked.push([rank, i]);
    }
    const { leaves } = tree;
    ranked.sort((a, b) => a[0] - b[0] || leaves[b[1]] - leaves[a[1]] || a[1] - b[1]);
    return ranked.map((entry) => entry[1]);
  }

  onPath(node, word) {
    const { tree } = this.app.scene;
    for (let n = node; n !== tree.root; n = tree.parent[n]) {
      if (this.folded[n].includes(word)) return true;
    }
    return false;
  }

  /** The texts of the page that hold every word of a query: where a word begins with it, where it
   * stands as it is, the rest; null where none does. */
  textMatches(query) {
    const { texts } = this.app.doc;
    const words = folded(cleaned(query)).split(" ").filter(Boolean);
    const whole = words.join(" ");
    if (!texts || UNTOLD.test(whole)) return null;
    if (!this.foldedTexts) this.foldedTexts = texts.text.map((text) => folded(cleaned(text)));
    const plain = whole.replace(/[.*+?^${}()|[\]\\/]/g, "\\$&");
    const begins = new RegExp(`(?<![\\p{L}\\p{M}\\p{N}])${plain}`, "u");
    const ranked = [[], [], []];
    this.foldedTexts.forEach((text, t) => {
      if (!words.every((word) => text.includes(word))) return;
      ranked[begins.test(text) ? 0 : text.includes(whole) ? 1 : 2].push(t);
    });
    const all = ranked.flat();
    if (!all.length) return null;
    const has = new Uint8Array(texts.count);
    for (const t of all) has[t] = 1;
    return { words: whole, said: cleaned(query), texts: all, has };
  }

  update() {
    const { app } = this;
    const query = this.input.value;
    const labels = this.matches(query);
    const inTexts = this.textMatches(query);
    const options = [];
    const option = (thing, ...parts) => {
      const k = this.found.push(thing) - 1;
      const on = () => this.take(k);
      const kind = thing.text === undefined ? null : "of-text";
      options.push(make("li", { role: "option", id: `found-${k}`, class: kind, on }, parts));
    };
    const line = (words) => options.push(make("li", { role: "presentation", class: "more" }, words));
    this.found = [];
    const most = MOST_FOUND - (inTexts ? Math.min(FEW_FOUND, inTexts.texts.length) : 0);
    for (const node of labels.slice(0, most)) {
      const name = make("bdi", { class: "name" }, shortened(nodeName(app, node), 60));
      const above = app.scene.tree.parent[node];
      const where = above === app.scene.tree.root ? "" : pathWords(app, above);
      option({ node }, classDot(app, node), name, where && make("bdi", { class: "extra" }, where));
    }
    if (labels.length > most) line(`${grouped(labels.length - most)} more`);
    if (inTexts) {
      const { gold, predicted, wrong } = app.doc.texts;
      const { texts, words } = inTexts;
      line(labels.length ? "In texts" : "No label of that name; in texts");
      for (const text of texts.slice(0, FEW_FOUND)) {
        const end = gold[text] >= 0 ? gold[text] : predicted[text];
        const part = make("bdi", { class: "name" }, excerpt(app.doc.texts.text[text], 60, words));
        const mistaken = wrong[text] ? make("span", { class: "extra" }, "mistaken") : null;
        const kind = make("span", { class: "hidden" }, "Text: "); // for who does not see the line
        option({ text, inTexts }, classDot(app, end), kind, part, mistaken);
      }
      if (texts.length > 1) option({ inTexts }, `Show all ${grouped(texts.length)} texts`);
    }
    this.active = this.found.length ? 0 : -1;
    const both = app.doc.texts && !UNTOLD.test(folded(cleaned(query)));
    const nothing = `No label of that name${both ? ", no text with it" : ""}`;
    if (!this.found.length && query.trim()) line(nothing);
    this.list.replaceChildren(...options);
    this.open(options.length > 0);
    this.mark();
    if (!query.trim()) return;
    const told = labels.length ? [plural(labels.length, "label", "labels")] : [];
    if (inTexts) told.push(plural(inTexts.texts.length, "text", "texts"));
    app.say(told.join(", ") || nothing);
  }

  open(shown) {
    this.list.hidden = !shown;
    this.input.setAttribute("aria-expanded", String(shown && this.found.length > 0));
  }

  close() {
    this.open(false);
    this.input.removeAttribute("aria-activedescendant");
  }

  mark() {
    const active = `found-${this.active}`;
    for (const option of this.list.querySelectorAll("[role=option]")) {
      option.setAttribute("aria-selected", String(option.id === active));
    }
    if (this.active >= 0) {
      this.input.setAttribute("aria-activedescendant", active);
      document.getElementById(active).scrollIntoView({ block: "nearest" });
    } else {
      this.input.removeAttribute("aria-activedescendant");
    }
  }

  key(event) {
    const n = this.found.length;
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      if (this.list.hidden) this.update();
      else if (n) this.active = (this.active + (event.key === "ArrowDown" ? 1 : n - 1)) % n;
      this.mark();
    } else if (event.key === "Enter" && !event.isComposing) {
      event.preventDefault();
      if (this.list.hidden) this.update();
      if (this.active >= 0) this.take(this.active);
    } else if (event.key === "Escape") {
      event.preventDefault();
      if (this.list.hidden) {
        this.input.value = "";
        this.app.canvas.focus();
      }
      this.close();
    }
  }

  take(k) {
    const { node, text, inTexts } = this.found[k];
    this.close();
    if (node !== undefined) {
      this.input.value = nodeName(this.app, node).slice(0, LONGEST_NAME); // finds it again
      this.app.choose(node, { centre: true });
      this.app.canvas.focus();
    } else if (text !== undefined) {
      this.app.canvas.focus(); // says nothing of the text, which is said then
      this.app.state.found = inTexts;
      this.app.chooseText(text);
    } else {
      this.app.showFound(inTexts);
    }
  }
}
