// The page: asks the server each second what it does, and shows it. What was is remembered here, not there.

import { Cache } from "./cache.js";
import { bytes, count, element, percent, renew, span, term } from "./draw.js";
import { Jobs } from "./jobs.js";
import { Models } from "./models.js";
import { Playground } from "./playground.js";
import { Requests } from "./requests.js";
import { change, get, getAdminKey, getKey, setAdminKey, setKey } from "./server.js";

const EVERY_MS = 1000, ANEW_MS = 30000;
const find = (id) => document.getElementById(id);
const cache = new Cache(find("cache"), find("cache-text"), find("cache-legend"));
const jobs = new Jobs(find("jobs"), find("jobs-text"), find("job"));
const models = new Models(find("models"), changed);
const requests = new Requests(find);
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
  const policy = info.policy ? [", ", term("policy"), ` ${info.policy}`] : [];
  renew(find("about"), shares, ...policy, `, ${bytes(info.cache.total_blocks * info.cache.block_bytes)} of cache; version ${info.version}`);
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
  requests.show(live);
  find("totals").replaceChildren(
    total("tokens a second", count(models.speed), `+ ${count(models.promptSpeed)} of prompts`),
    total("running", count(sum("running")), "requests"),
    total("waiting", count(sum("waiting")), "requests"),
    total("cache", percent(1 - live.free_blocks / live.total_blocks), `in use, ${percent(sum("cached_blocks") / live.total_blocks)} kept`),
    ...live.memory.map(({ name, used_bytes, total_bytes }) => total("memory", percent(used_bytes / total_bytes), `of ${bytes(total_bytes)}, ${name}`)),
    total("up", span(live.uptime_s), "since the start"),
  );
}

const total = (name, value, more) => element("div", {}, element("dt", {}, name), element("dd", {}, value, " ", element("small", {}, more)));

function trouble(text) {
  find("trouble").hidden = !text;
  if (find("trouble").textContent !== text) find("trouble").textContent = text;
}

/** Has a model changed, and says so: loading, or requests that end first, may take minutes. */
async function changed(method, path, what, body) {
  if (!getAdminKey()) {
    find("change").textContent = "Changing models takes the server's admin key: enter it at the top.";
    find("admin-key").focus();
    return;
  }
  find("change").textContent = `${what}: under way`;
  try {
    await change(method, path, body);
    find("change").textContent = `${what}: done`;
    info = null; // to be read anew
  } catch (error) {
    find("change").textContent = `${what}: ${error.message}`;
  }
}

find("key").value = getKey();
find("admin-key").value = getAdminKey();
find("admin-key").addEventListener("change", () => setAdminKey(find("admin-key").value));
find("load").addEventListener("submit", (event) => {
  event.preventDefault();
  const name = find("load-name").value.trim();
  changed("POST", "", `Load ${name}`, { name, path: find("load-path").value.trim() });
});
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
