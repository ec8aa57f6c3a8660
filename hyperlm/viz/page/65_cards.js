// What is known of a label, as elements. Everything in them is set as text.

const MANY = 1000; // entries of a list at a time
const FEW_TEXTS = 100; // which are longer

/** An element: make("p", { class: "x" }, "text", child, ...). */
function make(tag, attributes = {}, ...inside) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "on") element.addEventListener("click", value);
    else if (value === true) element.setAttribute(key, "");
    else if (value !== false && value !== null) element.setAttribute(key, value);
  }
  for (const part of inside.flat()) {
    if (part !== null && part !== undefined && part !== false) element.append(part);
  }
  return element;
}

function nodeName(app, node) {
  return node === app.scene.tree.root
    ? app.doc.title
    : cleaned(app.scene.tree.names[node]) || "\u25a1";
}

/** Its name, and above it what tells it from others of that name. */
function tellingName(app, node) {
  const { tree } = app.scene;
  const name = shortened(nodeName(app, node), 80);
  if (node === tree.root) return name;
  if (!tree.namesakes) {
    const seen = new Map();
    for (const word of tree.names) seen.set(word, (seen.get(word) || 0) + 1);
    tree.namesakes = seen;
  }
  const above = tree.parent[node];
  if (tree.namesakes.get(tree.names[node]) < 2 || above === tree.root) return name;
  return `${shortened(nodeName(app, above), 40)} \u203a ${name}`;
}

/** A button that leads to a node; its dot has the colour of the top class. `alone`: where its
 * parent does not stand beside it. */
function nodeButton(app, node, extra = null, alone = false) {
  const words = alone ? tellingName(app, node) : shortened(nodeName(app, node), 80);
  const name = make("bdi", { class: "name" }, words);
  return make(
    "button",
    { type: "button", class: "node", on: () => app.choose(node, { centre: true }) },
    classDot(app, node),
    name,
    extra === null ? null : make("span", { class: "extra" }, extra),
  );
}

/** A dot in the colour of a label's top class, in whichever theme the page has. */
function classDot(app, node) {
  const { tree } = app.scene;
  const dot = make("span", { class: "dot", "aria-hidden": "true" });
  const ink = node < 0 || node === tree.root;
  dot.style.backgroundColor = ink ? "var(--ink)" : `var(--class-${classOf(tree.top[node])})`;
  return dot;
}

function fact(name, value) {
  return make("div", {}, make("dt", {}, name), make("dd", {}, value));
}

function bar(share) {
  const inner = make("span");
  inner.style.width = `${(100 * Math.max(0, Math.min(1, share))).toFixed(1)}%`;
  return make("span", { class: "bar", "aria-hidden": "true" }, inner);
}

function levelWords(app, node) {
  const { tree } = app.scene;
  const depth = tree.depth[node];
  const name = app.doc.levelNames[depth - 1];
  const plain = `Level ${depth} of ${tree.levels}`;
  return name && !/^(level|l)?\s*\d+$/i.test(name) ? `${plain}, ${cleaned(name)}` : plain;
}

/** Card of a label; `brief` for the one that floats. */
function nodeCard(app, node, brief) {
  const { tree } = app.scene;
  const root = node === tree.root;
  const facts = make("dl", { class: "facts" });
  if (tree.children[node]) {
    const families = tree.below[node] > tree.leaves[node];
    const leaves = plural(tree.leaves[node], "leaf", "leaves");
    facts.append(
      fact("Labels below", grouped(tree.below[node]) + (families ? ` (${leaves})` : "")),
    );
  }
  if (!root && tree.texts && Number.isFinite(tree.texts[node])) {
    facts.append(
      fact(tree.children[node] ? "Texts at or below" : "Texts", grouped(tree.texts[node])),
    );
  }
  if (root && app.doc.texts) {
    const { count, gold, mistakes } = app.doc.texts;
    facts.append(fact("Texts on this page", grouped(count)));
    if (gold.every((g) => g >= 0) && count) {
      const right = 1 - mistakes / count;
      facts.append(fact("Whole path right", [make("span", {}, percent(right)), bar(right)]));
    }
  }
  const accuracy = !root && tree.accuracy ? tree.accuracy[node] : null;
  if (typeof accuracy === "number") {
    facts.append(fact("Accuracy", [make("span", {}, percent(accuracy)), bar(accuracy)]));
  }
  const meaning = !root && tree.description ? tree.description[node] : null;
  const card = make(
    "article",
    { class: brief ? "card brief" : "card" },
    make(
      "h2",
      {},
      make("bdi", {}, brief ? shortened(nodeName(app, node), 120) : nodeName(app, node)),
    ),
    make("p", { class: "where" }, root ? "The root" : levelWords(app, node)),
    brief && !root && tree.parent[node] !== tree.root
      ? make("p", { class: "where" }, make("bdi", {}, pathWords(app, tree.parent[node])))
      : null,
    meaning ? make("p", { class: "meaning" }, brief ? shortened(meaning, 160) : cleaned(meaning)) : null,
    facts,
  );
  const confused = (!root && tree.confused && tree.confused[node]) || [];
  if (confused.length) {
    card.append(
      make("h3", {}, "Taken for"),
      make(
        "ul",
        { class: "nodes" },
        confused
          .slice(0, 3)
          .map(([other, count]) =>
            make("li", {}, nodeButton(app, other, plural(count, "text", "texts"), true)),
          ),
      ),
    );
  }
  const examples = (!root && app.doc.texts && tree.examples && tree.examples[node]) || [];
  if (examples.length) {
    const entry = (t) => textEntry(app, t, brief ? 110 : 220);
    const list = make("ul", { class: "examples" }, examples.slice(0, brief ? 2 : 3).map(entry));
    card.append(make("h3", {}, "Examples"), list);
    const all = brief ? [] : textsBelow(app, node);
    if (all.length > list.children.length) {
      card.append(pages(list, all, entry, 0, FEW_TEXTS, " texts of this page"));
    }
  }
  return card;
}

/** Buttons that fill a list with all that it shows a part of, so `many` at a time. `place` keeps
 * where one is, for when the list is made anew. */
function pages(list, items, entry, around, many = MANY, kind = "", place = {}) {
  const buttons = make("div");
  const button = (words, first) =>
    make("button", { type: "button", class: "quiet", on: () => show(first) }, words);
  const show = (first) => {
    const next = first + many;
    place.first = first;
    list.replaceChildren(...items.slice(first, next).map(entry));
    list.scrollTop = 0;
    list.before(buttons); // a long list is not to be walked through first
    const [before, after] = [Math.min(many, first), Math.min(many, items.length - next)];
    buttons.replaceChildren(
      ...(before > 0 ? [button(`Previous ${grouped(before)}`, first - before)] : []),
      ...(after > 0 ? [button(`Next ${grouped(after)}`, next)] : []),
    );
    list.querySelector("button").focus();
  };
  const words = items.length > many ? grouped(many) : `all ${grouped(items.length)}`;
  const first = Math.max(0, Math.min(around - many / 2, items.length - many));
  if (place.first === undefined) buttons.append(button(`Show ${words}${kind}`, first));
  else show(place.first);
  return buttons;
}

function pathWords(app, node) {
  return pathOf(app.scene.tree, node)
    .map((n) => shortened(nodeName(app, n), 40))
    .join(" \u203a ");
}

function pathButtons(app, node) {
  return make(
    "span",
    { class: "path" },
    pathOf(app.scene.tree, node).map((n) => nodeButton(app, n)),
  );
}

/** One sentence for a screen reader. */
function nodeSentence(app, node) {
  const { tree } = app.scene;
  const parts = [nodeName(app, node)];
  if (node === tree.root) {
    parts.push("the root", plural(tree.count, "label", "labels"));
  } else {
    parts.push(levelWords(app, node));
    if (tree.parent[node] !== tree.root) parts.push(`under ${nodeName(app, tree.parent[node])}`);
    const row = childrenOf(tree, tree.parent[node]);
    if (row.length > 1) parts.push(`${row.indexOf(node) + 1} of ${row.length}`);
    if (tree.children[node]) parts.push(plural(tree.children[node], "child", "children"));
    if (tree.texts && Number.isFinite(tree.texts[node])) {
      parts.push(plural(tree.texts[node], "text", "texts"));
    }
    if (tree.accuracy && typeof tree.accuracy[node] === "number") {
      parts.push(`accuracy ${percent(tree.accuracy[node])}`);
    }
  }
  return shortened(parts.join(", "), 400);
}

/** The card beside what the pointer is on. It stays while the pointer is over it. */
class FloatingCard {
  constructor(app) {
    this.app = app;
    this.box = document.getElementById("hover");
    this.key = "";
    this.timer = 0;
    this.box.addEventListener("pointerenter", () => clearTimeout(this.timer));
    this.box.addEventListener("pointerleave", () => this.hideSoon());
  }

  /** Show what `card` makes, after the pointer has stayed a moment. */
  show(key, x, y, card) {
    clearTimeout(this.timer);
    if (this.key === key) return;
    this.timer = setTimeout(() => this.showNow(key, x, y, card()), this.key ? 60 : 140);
  }

  showNow(key, x, y, card) {
    this.key = key;
    this.box.replaceChildren(card);
    this.box.hidden = false;
    const { width, height } = this.app.scene;
    const w = this.box.offsetWidth;
    const h = this.box.offsetHeight;
    const left = x + 14 + w <= width ? x + 14 : Math.max(4, x - 14 - w);
    const top = Math.max(4, Math.min(height - h - 4, y - 24));
    this.box.style.left = `${left}px`;
    this.box.style.top = `${top}px`;
  }

  hideSoon() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.hide(), 260);
  }

  hide() {
    clearTimeout(this.timer);
    this.key = "";
    this.box.hidden = true;
    this.box.replaceChildren();
  }
}
