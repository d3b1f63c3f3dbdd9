// What all pictures share: sharp canvases, a colour for each model, and numbers as people read them.

const COLOURS = 8;
const MEANINGS = {
  "head block": "memory for keys and values of one kv head of one layer, for a few tokens; the same size for every model",
  quota: "most head blocks that a model may hold while others want some; it follows use",
  policy: "what decides, turn by turn, which models compute next and how the quotas move",
  p50: "half of the requests of the last minute took at most so long",
  p99: "99 of 100 requests of the last minute took at most so long",
};

/** The drawing context of a canvas of so many CSS pixels in height, cleared; its width in CSS pixels as `width`. */
export function sheet(canvas, height) {
  const scale = window.devicePixelRatio || 1, width = canvas.clientWidth;
  canvas.style.height = `${height}px`;
  if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
  }
  const ink = canvas.getContext("2d");
  ink.setTransform(scale, 0, 0, scale, 0, 0);
  ink.clearRect(0, 0, width, height);
  return { ink, width };
}

export const variable = (index) => `var(--m${index % COLOURS})`;

export function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

export const colourOf = (index) => colour(`m${index % COLOURS}`);

export function seconds(value) {
  if (value == null) return "–";
  if (value < 0.01) return `${(value * 1e3).toFixed(1)} ms`;
  return value < 0.9995 ? `${Math.round(value * 1e3)} ms` : `${Number(value.toFixed(value < 10 ? 2 : 0))} s`;
}

export function count(value) {
  if (value == null) return "–";
  const [divisor, unit] = value >= 1e9 ? [1e9, " G"] : value >= 1e6 ? [1e6, " M"] : value >= 1e4 ? [1e3, " k"] : [1, ""];
  const scaled = value / divisor;
  return (unit && scaled < 100 ? scaled.toFixed(1) : Math.round(scaled).toLocaleString("en")) + unit;
}

export function bytes(value) {
  const power = Math.min(4, Math.floor(Math.log2(value || 1) / 10));
  return `${(value / 1024 ** power).toLocaleString("en", { maximumFractionDigits: 1 })} ${["B", "KiB", "MiB", "GiB", "TiB"][power]}`;
}

export const percent = (share) => `${Math.round(share * 100)} %`;

/** Gives an element other children, if they say something else: whoever reads one of them goes on. */
export function renew(box, ...children) {
  if (box.textContent === children.map((child) => child.textContent ?? child).join("")) return;
  box.replaceChildren(...children);
}

/** How long ago, or since: such as "3 min". */
export function span(value) {
  if (value < 90) return `${Math.round(value)} s`;
  if (value < 5400) return `${Math.round(value / 60)} min`;
  return value < 129600 ? `${Math.round(value / 3600)} h` : `${Math.round(value / 86400)} days`;
}

/** A word with its meaning, for who points at it or reaches it by the keyboard. */
export function term(word) {
  const meaning = MEANINGS[word.replace(/s$/, "")];
  const made = element("abbr", { className: "tip", tabIndex: 0 }, word);
  made.dataset.tip = meaning;
  made.ariaLabel = `${word}: ${meaning}`;
  return made;
}

/** A new element: properties, then children, which are elements or text. */
export function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}
