// The search box: a combobox with a list of labels, best matches first.

const MOST_FOUND = 12;
const LONGEST_NAME = 600; // characters that are compared

class Search {
  constructor(app) {
    this.app = app;
    this.input = document.getElementById("search");
    this.list = document.getElementById("found");
    this.found = [];
    this.active = -1;
    this.folded = null;
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

  update() {
    const query = this.input.value;
    const all = this.matches(query);
    this.found = all.slice(0, MOST_FOUND);
    this.active = this.found.length ? 0 : -1;
    const options = this.found.map((node, k) => {
      const name = make("bdi", { class: "name" }, shortened(nodeName(this.app, node), 60));
      const above = this.app.scene.tree.parent[node];
      const where = above === this.app.scene.tree.root ? "" : pathWords(this.app, above);
      const dot = make("span", { class: "dot", "aria-hidden": "true" });
      dot.style.backgroundColor = classColorOf(this.app, node);
      return make(
        "li",
        { role: "option", id: `found-${k}`, on: () => this.take(k) },
        dot,
        name,
        where && make("bdi", { class: "extra" }, where),
      );
    });
    if (all.length > MOST_FOUND) {
      options.push(
        make(
          "li",
          { role: "presentation", class: "more" },
          `${grouped(all.length - MOST_FOUND)} more`,
        ),
      );
    } else if (!all.length && query.trim()) {
      options.push(make("li", { role: "presentation", class: "more" }, "No label of that name"));
    }
    this.list.replaceChildren(...options);
    this.open(options.length > 0);
    this.mark();
    if (query.trim())
      this.app.say(all.length ? plural(all.length, "label", "labels") : "No label of that name");
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
    [...this.list.children].forEach((option, k) => {
      if (option.id) option.setAttribute("aria-selected", String(k === this.active));
    });
    if (this.active >= 0) {
      this.input.setAttribute("aria-activedescendant", `found-${this.active}`);
      this.list.children[this.active].scrollIntoView({ block: "nearest" });
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
    } else if (event.key === "Enter") {
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
    const node = this.found[k];
    this.input.value = nodeName(this.app, node).slice(0, LONGEST_NAME); // finds it again
    this.close();
    this.app.choose(node, { centre: true });
    this.app.canvas.focus();
  }
}
