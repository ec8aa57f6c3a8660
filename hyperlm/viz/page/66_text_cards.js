// What is shown of texts: entries of lists, the texts of a label, those that hold some words.

const FIRST_FOUND = 20; // texts listed before one asks for more

function textEntry(app, text, longest, words = "") {
  const { texts } = app.doc;
  return make(
    "li",
    {},
    make(
      "button",
      { type: "button", class: "text", "data-text": text, on: () => app.chooseText(text) },
      make("bdi", {}, excerpt(texts.text[text], longest, words)),
      texts.wrong[text] ? make("span", { class: "extra" }, " mistaken") : null,
    ),
  );
}

/** At most `longest` characters of a text, with `words` marked: from a little before where it holds
 * them, from its start where it does not. Parts of an element. */
function excerpt(text, longest, words) {
  const line = cleaned(text);
  const [first] = placesOf(line, words);
  const room = Math.max(12, Math.floor(longest / 3));
  let from = first && first[0] > room ? first[0] - room : 0;
  const space = line.indexOf(" ", from);
  if (from > 0 && space >= 0 && space < first[0]) from = space + 1; // a whole word
  if (/[\udc00-\udfff]/.test(line[from])) from--; // a whole character
  return marked((from > 0 ? "\u2026" : "") + shortened(line.slice(from), longest), words);
}

/** A line as parts of an element, all that `words` holds in <mark>. */
function marked(line, words) {
  const parts = [];
  let done = 0;
  for (const [start, end] of placesOf(line, words)) {
    parts.push(line.slice(done, start), make("mark", {}, line.slice(start, end)));
    done = end;
  }
  return [...parts, line.slice(done)];
}

/** Where folded `words` stand in a line, as [start, end) from left to right, none in another: as
 * they are if the line holds them so, else each of them. */
function placesOf(line, words) {
  if (!words) return [];
  // Folding is done character by character: accents, too, are told apart from what bears them.
  const signs = Array.from(line);
  const lengths = signs.map((sign) => folded(sign).length);
  const whole = folded(line);
  const found = [];
  for (const word of whole.includes(words) ? [words] : words.split(" ")) {
    for (let at = whole.indexOf(word); at >= 0; at = whole.indexOf(word, at + word.length)) {
      found.push([at, at + word.length]);
    }
  }
  found.sort((a, b) => a[0] - b[0] || b[1] - a[1]);
  const places = [];
  let [k, before, place] = [0, 0, 0]; // sign, folded and plain characters before it
  const advance = (more) => {
    for (; k < signs.length && more(lengths[k]); k++) {
      before += lengths[k];
      place += signs[k].length;
    }
    return place;
  };
  let last = 0;
  for (const [start, end] of found) {
    if (start < last) continue;
    last = end;
    const from = advance((length) => before + length <= start);
    places.push([from, advance((length) => before < end || !length)]);
  }
  return places;
}

/** The texts whose label is a node or below it, by any parent; mistakes first. Where no text has a
 * label, predictions count. */
function textsBelow(app, node) {
  const { tree } = app.scene;
  const { gold, predicted, wrong, count } = app.doc.texts;
  const below = new Set([node]);
  for (const at of below) {
    for (const child of childrenOf(tree, at)) below.add(child);
    for (const child of tree.childrenOf.get(at) || []) below.add(child);
  }
  const ends = gold.some((end) => end >= 0) ? gold : predicted;
  const [mistaken, others] = [[], []];
  for (let t = 0; t < count; t++) if (below.has(ends[t])) (wrong[t] ? mistaken : others).push(t);
  return mistaken.concat(others);
}

/** The texts that hold some words, as the search found them. */
function foundCard(app, found) {
  const { wrong } = app.doc.texts;
  const mistaken = found.texts.filter((t) => wrong[t]).length;
  const entry = (t) => textEntry(app, t, 220, found.words);
  const list = make("ul", { class: "examples" }, found.texts.slice(0, FIRST_FOUND).map(entry));
  const card = make(
    "article",
    { class: "card" },
    make("h2", {}, make("span", {}, "Texts with ", quoted(found.said))),
    make(
      "p",
      { class: "where" },
      plural(found.texts.length, "text", "texts") + (mistaken ? `, ${grouped(mistaken)} mistaken` : ""),
    ),
    list,
  );
  if (found.texts.length > FIRST_FOUND) {
    card.append(pages(list, found.texts, entry, 0, FEW_TEXTS, " texts", found));
  }
  return card;
}

function textCard(app, text, brief) {
  const { texts } = app.doc;
  const gold = texts.gold[text];
  const predicted = texts.predicted[text];
  const probability = texts.probability[text];
  const { found } = app.state;
  const words = found ? found.words : "";
  const whole = texts.text[text];
  const facts = make("dl", { class: "facts" });
  const one = (name, node, more) =>
    facts.append(
      fact(name, [brief ? make("bdi", {}, pathWords(app, node)) : pathButtons(app, node), more]),
    );
  if (gold >= 0) one("Label", gold, null);
  if (predicted >= 0) {
    const sure = Number.isFinite(probability)
      ? make("span", { class: "sure" }, percent(probability), bar(probability))
      : null;
    one("Prediction", predicted, sure);
  }
  const verdict = gold < 0 || predicted < 0 ? null : texts.wrong[text] ? "Mistaken" : "Correct";
  return make(
    "article",
    { class: brief ? "card brief" : "card" },
    make(
      "h2",
      {},
      "Text",
      verdict && make("span", { class: `verdict ${verdict.toLowerCase()}` }, verdict),
    ),
    make(
      "blockquote",
      {},
      make("bdi", {}, brief ? excerpt(whole, 240, words) : marked(cleaned(whole), words)),
    ),
    facts,
    !brief && found && found.texts.length > 1 ? foundAgain(app) : null,
  );
}

/** Back to the list that a text was chosen from. */
function foundAgain(app) {
  const { found } = app.state;
  const words = `All ${grouped(found.texts.length)} texts with `;
  const on = () => app.showFound(found);
  return make("button", { type: "button", class: "quiet", on }, words, quoted(found.said));
}

function quoted(said) {
  return ["\u201c", make("bdi", {}, shortened(said, 40)), "\u201d"];
}
