// The page: asks the server each second what it does, and shows it. What was is remembered here, not there.

import { Cache } from "./cache.js";
import { bytes, count, element, percent } from "./draw.js";
import { Jobs } from "./jobs.js";
import { Models } from "./models.js";
import { Playground } from "./playground.js";
import { get, getKey, setKey } from "./server.js";

const EVERY_MS = 1000, ANEW_MS = 30000;
const find = (id) => document.getElementById(id);
const cache = new Cache(find("cache"), find("cache-text"), find("cache-legend"));
const jobs = new Jobs(find("jobs"), find("jobs-text"), find("job"));
const models = new Models(find("models"));
const playground = new Playground(find);
let info = null, read = 0, timer = 0;

async function look() {
  clearTimeout(timer);
  try {
    if (!info || performance.now() - read > ANEW_MS) await readInfo();
    const live = await get(`server_info/live?after=${jobs.last}`);
    if (isAnother(live)) await readInfo();
    show(live);
    trouble("");
  } catch (error) {
    find("state").textContent = error.status === 401 ? "locked" : "away";
    find("state").className = "pill bad";
    trouble(error.status === 401 ? "This server wants an API key: enter one above." : `${error.message} Trying again.`);
    if (error.status === undefined) jobs.forget();
  }
  timer = setTimeout(look, EVERY_MS);
}

async function readInfo() {
  info = await get("server_info");
  read = performance.now();
  const devices = info.devices > 1 ? `${info.devices} devices` : "one device";
  const shares = `${info.models.length} model${info.models.length > 1 ? "s" : ""} on ${devices}${units(info.units)}`;
  const policy = info.policy ? `, policy ${info.policy}` : "";
  find("about").textContent = `${shares}${policy}, ${bytes(info.cache.total_blocks * info.cache.block_bytes)} of cache; version ${info.version}`;
  playground.offer(info.models);
}

const isAnother = (live) => Object.keys(live.models).sort().join() !== info.models.map(({ name }) => name).sort().join();

function show(live) {
  const all = Object.values(live.models), sum = (name) => all.reduce((total, model) => total + model[name], 0);
  find("state").textContent = live.state;
  find("state").className = `pill ${live.state === "ready" ? "good" : "bad"}`;
  models.show(live, info.models);
  cache.show(live, info.models, info.cache.block_bytes);
  jobs.show(live.jobs, live.now_s, info.models);
  find("totals").replaceChildren(
    total("tokens a second", count(models.speed), `+ ${count(models.promptSpeed)} of prompts`),
    total("running", count(sum("running")), "requests"),
    total("waiting", count(sum("waiting")), "requests"),
    total("cache", percent(1 - live.free_blocks / live.total_blocks), `in use, ${percent(sum("cached_blocks") / live.total_blocks)} kept`),
  );
}

const total = (name, value, more) => element("div", {}, element("dt", {}, name), element("dd", {}, value, " ", element("small", {}, more)));

function trouble(text) {
  find("trouble").hidden = !text;
  if (find("trouble").textContent !== text) find("trouble").textContent = text;
}

find("key").value = getKey();
find("key-form").addEventListener("submit", (event) => event.preventDefault());
find("key").addEventListener("change", () => { setKey(find("key").value); look(); });
find("window").addEventListener("change", () => { jobs.span = Number(find("window").value); jobs.draw(); });
find("pause").addEventListener("click", () => {
  jobs.paused = !jobs.paused;
  find("pause").ariaPressed = String(jobs.paused);
  find("pause").textContent = jobs.paused ? "Go on" : "Pause";
});
look();

/** The units that are not one process, and what is wrong with any. */
function units(all) {
  if (!all.length) return "";
  const told = all.map(({ name, models, state, trouble }) => `unit ${name} (${models.join(", ")}) ${state}${state === "ready" ? "" : trouble && ": " + trouble}`);
  return `: ${told.join("; ")}`;
}
