// The document in the page, checked, as arrays. Nodes are numbered 0 .. N-1; the root, which the
// document does not list, is node N here and everybody's last ancestor.

class PageError extends Error {}

/** Little-endian float64 numbers from base64. */
function decodeNumbers(text, count, what) {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  if (bytes.length !== 8 * count) {
    throw new PageError(`${what}: ${bytes.length} bytes, expected ${8 * count}.`);
  }
  const view = new DataView(bytes.buffer);
  const numbers = new Float64Array(count);
  for (let i = 0; i < count; i++) numbers[i] = view.getFloat64(8 * i, true);
  return numbers;
}

function readDocument(json) {
  let doc;
  try {
    doc = JSON.parse(json);
  } catch (error) {
    throw new PageError(`The data of this page is not JSON: ${error.message}`);
  }
  if (!doc || doc.version !== 1 || !doc.nodes || !Array.isArray(doc.nodes.name)) {
    throw new PageError("The data of this page is not of version 1. Make the page again.");
  }
  const tree = readTree(doc.nodes);
  const texts = readTexts(doc.texts, tree.count);
  const layouts = (doc.layouts || []).map((entry) => readLayout(entry, tree, texts));
  if (!layouts.length) throw new PageError("The data of this page holds no layout.");
  return {
    title: cleaned(doc.title || "") || "Label tree",
    generator: String(doc.generator || "hyperlm"),
    geometry: String(doc.geometry || "none"),
    c: Number(doc.c) || 0,
    served: doc.served === true,
    notes: (Array.isArray(doc.notes) ? doc.notes : []).map(cleaned),
    levelNames: (doc.levels || []).map(String),
    tree,
    texts,
    layouts,
  };
}

function readTree(nodes) {
  const names = nodes.name.map(String);
  const count = names.length;
  if (!Array.isArray(nodes.parent) || nodes.parent.length !== count) {
    throw new PageError(`${count} names but ${nodes.parent && nodes.parent.length} parents.`);
  }
  const parent = new Int32Array(count + 1).fill(-1);
  const depth = new Int32Array(count + 1);
  const children = new Int32Array(count + 1); // how many
  for (let i = 0; i < count; i++) {
    const above = nodes.parent[i];
    if (!Number.isInteger(above) || above < -1 || above >= i) {
      throw new PageError(`Node ${i} has the parent ${above}; parents come before children.`);
    }
    parent[i] = above < 0 ? count : above;
    depth[i] = above < 0 ? 1 : depth[above] + 1;
    children[parent[i]]++;
  }
  const start = new Int32Array(count + 2);
  for (let i = 0; i <= count; i++) start[i + 1] = start[i] + children[i];
  const list = new Int32Array(count);
  const next = start.slice();
  for (let i = 0; i < count; i++) list[next[parent[i]]++] = i;
  const leaves = new Int32Array(count + 1);
  const below = new Int32Array(count + 1); // nodes under it
  for (let i = count - 1; i >= 0; i--) {
    if (!children[i]) leaves[i] = 1;
    leaves[parent[i]] += leaves[i];
    below[parent[i]] += below[i] + 1;
  }
  const top = new Int32Array(count + 1).fill(-1); // number of the top class, in order
  let tops = 0;
  for (let i = 0; i < count; i++) top[i] = parent[i] === count ? tops++ : top[parent[i]];
  const order = Int32Array.from({ length: count }, (_, i) => i);
  // Equals in a scattered order: what is cut off then is missing everywhere alike.
  const scattered = (i) => Math.imul(i + 1, 0x9e3779b1) >>> 0;
  order.sort((a, b) => leaves[b] - leaves[a] || depth[a] - depth[b] || scattered(a) - scattered(b));
  return {
    count,
    names,
    parent,
    depth,
    children,
    start,
    list,
    leaves,
    below,
    top,
    order,
    root: count,
    levels: depth.reduce((a, b) => Math.max(a, b), 0),
    ...otherParents(nodes.also, count),
    description: column(nodes.description, count),
    texts: column(nodes.count, count),
    accuracy: column(nodes.accuracy, count),
    confused: column(nodes.confused, count),
    examples: column(nodes.examples, count),
  };
}

/** Of a DAG: edges to parents that a node is not drawn under, and who is at their ends. */
function otherParents(pairs, count) {
  const also = pairs || [];
  const parentsOf = new Map();
  const childrenOf = new Map();
  const node = (v) => Number.isInteger(v) && v >= 0 && v < count;
  for (const pair of also) {
    if (!Array.isArray(pair) || pair.length !== 2 || !pair.every(node)) {
      throw new PageError(`${JSON.stringify(pair)} is no pair of a node and a parent.`);
    }
    const [child, parent] = pair;
    if (!parentsOf.has(child)) parentsOf.set(child, []);
    if (!childrenOf.has(parent)) childrenOf.set(parent, []);
    parentsOf.get(child).push(parent);
    childrenOf.get(parent).push(child);
  }
  return { also, parentsOf, childrenOf };
}

function column(values, count) {
  if (values === null || values === undefined) return null;
  if (!Array.isArray(values) || values.length !== count) {
    throw new PageError(`A column of ${values.length} entries for ${count} nodes.`);
  }
  return values;
}

function readTexts(entry, nodes) {
  if (!entry) return null;
  const count = entry.text.length;
  const node = (values, what) =>
    Int32Array.from(values, (v) => {
      if (!Number.isInteger(v) || v < -1 || v >= nodes) throw new PageError(`${what} node ${v}.`);
      return v;
    });
  const texts = {
    count,
    text: entry.text,
    gold: node(entry.gold, "Gold"),
    predicted: node(entry.predicted, "Predicted"),
    probability: Float64Array.from(entry.probability, Number),
  };
  if (texts.gold.length !== count || texts.predicted.length !== count) {
    throw new PageError(`${count} texts, but labels for ${texts.gold.length}.`);
  }
  texts.wrong = Uint8Array.from(texts.gold, (g, i) => (g >= 0 && g !== texts.predicted[i] ? 1 : 0));
  texts.mistakes = texts.wrong.reduce((a, b) => a + b, 0);
  return texts;
}

/** Squares of tangents must be numbers, however far out a point lies. */
function bounded(v) {
  return Number.isFinite(v) ? Math.max(-1e100, Math.min(1e100, v)) : v;
}

function readLayout(entry, tree, texts) {
  const name = String(entry.name);
  const given = decodeNumbers(entry.nodes, 2 * tree.count, `Layout ${name}`);
  const tangents = new Float64Array(2 * tree.count + 2); // the root, at the origin, is the last
  tangents.set(given.map(bounded));
  let lost = 0;
  for (let i = 0; i < tree.count; i++) {
    if (Number.isFinite(tangents[2 * i]) && Number.isFinite(tangents[2 * i + 1])) continue;
    const above = 2 * tree.parent[i]; // drawn on its parent, and said in the note
    tangents[2 * i] = tangents[above];
    tangents[2 * i + 1] = tangents[above + 1];
    lost++;
  }
  const points =
    texts && entry.texts ? decodeNumbers(entry.texts, 2 * texts.count, `Texts of ${name}`) : null;
  if (points) points.forEach((v, i) => (points[i] = Number.isFinite(v) ? bounded(v) : 0));
  const note = String(entry.note || "");
  return {
    name,
    label: cleaned(entry.label || name),
    note: lost ? `${note} ${plural(lost, "label has", "labels have")} no position.`.trim() : note,
    quality: entry.quality || null,
    tangents,
    texts: points,
    cones: entry.cones ? decodeNumbers(entry.cones, tree.count, `Cones of ${name}`) : null,
    room: null, // see roomOf
  };
}

/** Distance of every node to the nearest of its parent and the siblings beside it; made once. */
function roomOf(layout, tree) {
  if (layout.room) return layout.room;
  const t = layout.tangents;
  const room = new Float32Array(tree.count + 1).fill(8); // farther is as good as free
  const out = new Float64Array(3);
  const angle = new Float64Array(tree.count);
  for (let p = 0; p <= tree.count; p++) {
    const kids = tree.list.slice(tree.start[p], tree.start[p + 1]);
    for (const k of kids) {
      relative(t[2 * p], t[2 * p + 1], t[2 * k], t[2 * k + 1], out);
      angle[k] = Math.atan2(out[1], out[0]);
      const d = 2 * Math.asinh(Math.sqrt(out[2]));
      room[k] = Math.min(room[k], d);
      room[p] = Math.min(room[p], d);
    }
    kids.sort((a, b) => angle[a] - angle[b]);
    for (let j = 0; j < kids.length && kids.length > 1; j++) {
      const a = kids[j];
      const b = kids[(j + 1) % kids.length];
      const d = geodesicDistance(t[2 * a], t[2 * a + 1], t[2 * b], t[2 * b + 1]);
      room[a] = Math.min(room[a], d);
      room[b] = Math.min(room[b], d);
    }
  }
  layout.room = room;
  return room;
}

function pathOf(tree, node) {
  const path = [];
  for (let n = node; n >= 0 && n !== tree.root; n = tree.parent[n]) path.push(n);
  return path.reverse();
}

function childrenOf(tree, node) {
  return tree.list.subarray(tree.start[node], tree.start[node + 1]);
}
