// Names, texts and numbers as they are shown. All of them are data: they reach the page through
// textContent and fillText alone.

const segmenter = typeof Intl.Segmenter === "function" ? new Intl.Segmenter() : null;

/** One line; no control characters and none that turn the direction of what follows. */
function cleaned(text) {
  return String(text)
    .replace(/[\u202a-\u202e\u2066-\u2069\u200e\u200f]/g, "")
    .replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029\s]+/g, " ")
    .trim();
}

/** At most `limit` characters as a reader counts them, then an ellipsis. */
function shortened(text, limit) {
  const line = cleaned(text.length > 8 * limit + 64 ? text.slice(0, 8 * limit + 64) : text);
  if (line.length <= limit) return line;
  const parts = segmenter
    ? Array.from(segmenter.segment(line), (s) => s.segment)
    : Array.from(line);
  return parts.length <= limit
    ? line
    : parts
        .slice(0, limit - 1)
        .join("")
        .trimEnd() + "\u2026";
}

/** For comparing what is typed with names: lower case, without accents, Hebrew or Arabic points,
 * and signs that are not seen. Marks of other scripts are letters: a vowel of Devanagari is one. */
function folded(text) {
  return text
    .normalize("NFD")
    .replace(/[\u0300-\u036f\u0591-\u05c7\u064b-\u065f]+|\p{Cf}+/gu, "")
    .toLowerCase()
    .replace(/\u03c2/g, "\u03c3"); // a sigma is one at the end of a word too
}

function grouped(number) {
  return number.toLocaleString("en-US");
}

function percent(share) {
  const digits = share > 0.995 && share < 1 ? 2 : 1;
  return (100 * share).toFixed(digits).replace(/\.0+$/, "") + "\u2009%";
}

function plural(number, one, many) {
  return `${grouped(number)} ${number === 1 ? one : many}`;
}
