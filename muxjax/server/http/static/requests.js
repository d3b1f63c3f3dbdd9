// The last requests that ended, and those that were refused or failed before they began; nothing of what they said.

import { count, element, renew, seconds, span } from "./draw.js";

const SHOWN = 8;
const HEADS = ["ended", "model", "tokens in", "out", "first token", "in all", "ending"];
const ENDINGS = { stop: "complete", length: "at its limit", abort: "cut off", failed: "its model failed", error: "an error of ours" };

export class Requests {
  constructor(find) {
    Object.assign(this, { find });
  }

  show({ requests, refusals, refused }) {
    const rows = requests.slice(0, SHOWN).map((one) => [
      `${span(one.age_s)} ago`, one.model, count(one.prompt_tokens), count(one.tokens), seconds(one.ttft_s), seconds(one.duration_s), ENDINGS[one.finish] ?? one.finish,
    ]);
    this.find("requests-text").textContent = rows.length ? "that have ended, the last ones first" : "none has ended yet";
    table(this.find("requests"), HEADS, rows);
    const all = Object.entries(refused).map(([status, times]) => `${count(times)} with ${status}`);
    this.find("refusals-text").textContent = all.length ? `since the start: ${all.join(", ")}` : "none since the start";
    table(this.find("refusals"), ["when", "status", "why", "route"], refusals.slice(0, SHOWN).map((one) => [`${span(one.age_s)} ago`, String(one.status), one.code || "–", one.route]));
  }
}

function table(box, heads, rows) {
  box.hidden = !rows.length;
  const head = element("tr", {}, ...heads.map((text) => element("th", { scope: "col" }, text)));
  renew(box, element("thead", {}, head), element("tbody", {}, ...rows.map((row) => element("tr", {}, ...row.map((text) => element("td", {}, text))))));
}
